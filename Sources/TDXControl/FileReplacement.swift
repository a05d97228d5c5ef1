internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// A file that others read while it is written anew: they find the old one or the new one, whole.
enum FileReplacement {
    /// - Throws: what the file system refuses; the old file is as it was then.
    static func write(_ bytes: [UInt8], to path: String, mode: mode_t) throws(LinuxError) {
        // In the same folder, and not a name that collectors read.
        let temporary = path + ".\(getpid()).new"
        let number = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)
        guard number >= 0 else { throw LinuxError("open", Errno(rawValue: errno), detail: temporary) }
        let file = OwnedDescriptor(taking: number)
        do throws(LinuxError) {
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { Glibc.write(file.rawValue, $0.baseAddress, $0.count) }
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { throw LinuxError("write", Errno(rawValue: errno), detail: temporary) }
                rest = rest.dropFirst(count)
            }
            // umask may have taken from it what readers need.
            _ = fchmod(file.rawValue, mode)
            guard rename(temporary, path) == 0 else { throw LinuxError("rename", Errno(rawValue: errno), detail: path) }
        } catch {
            unlink(temporary)
            throw error
        }
    }
}
