internal import Glibc
internal import SystemPackage

/// Files that are there whole or not at all, also after a power failure.
public enum DurableFile {
    /// Writes `bytes` beside `name`, syncs them, moves them into place and syncs the directory.
    ///
    /// - Parameters:
    ///   - mode: the nine rwx bits; the umask takes from them.
    ///   - isExact: the umask does not.
    /// - Throws: what the file system refuses; the old file is as it was then.
    public static func write(
        _ bytes: [UInt8], name: String, in directory: String, mode: UInt32 = 0o640, isExact: Bool = false
    ) throws(LinuxError) {
        let temporary = directory + "/." + name + ".new"
        let path = directory + "/" + name
        let number = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)
        guard number >= 0 else { throw LinuxError("open", Errno(rawValue: errno), detail: temporary) }
        let file = OwnedDescriptor(taking: number)
        do throws(LinuxError) {
            guard !isExact || fchmod(file.rawValue, mode) == 0 else {
                throw LinuxError("fchmod", Errno(rawValue: errno), detail: temporary)
            }
            try writeAll(bytes, to: file.rawValue, path: temporary)
            guard fsync(file.rawValue) == 0 else {
                throw LinuxError("fsync", Errno(rawValue: errno), detail: temporary)
            }
            guard rename(temporary, path) == 0 else { throw LinuxError("rename", Errno(rawValue: errno), detail: path) }
        } catch {
            unlink(temporary)
            throw error
        }
        let place = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard place >= 0 else { throw LinuxError("open", Errno(rawValue: errno), detail: directory) }
        let held = OwnedDescriptor(taking: place)
        guard fsync(held.rawValue) == 0 else { throw LinuxError("fsync", Errno(rawValue: errno), detail: directory) }
    }

    /// The whole content of a regular file of at most `limit` bytes.
    /// - Throws: `EFBIG` when there are more.
    public static func read(path: String, limit: Int = 1 << 20) throws(LinuxError) -> [UInt8] {
        let number = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard number >= 0 else { throw LinuxError("open", Errno(rawValue: errno), detail: path) }
        let file = OwnedDescriptor(taking: number)
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let count = Glibc.read(file.rawValue, &chunk, chunk.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw LinuxError("read", Errno(rawValue: errno), detail: path)
            }
            if count == 0 { return bytes }
            bytes.append(contentsOf: chunk[..<count])
            guard bytes.count <= limit else { throw LinuxError("read", .fileTooLarge, detail: path) }
        }
    }

    private static func writeAll(_ bytes: [UInt8], to descriptor: Int32, path: String) throws(LinuxError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw LinuxError("write", Errno(rawValue: errno), detail: path)
            }
            rest = rest.dropFirst(count)
        }
    }
}
