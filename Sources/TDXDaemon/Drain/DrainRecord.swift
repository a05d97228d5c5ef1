internal import ControlInterface
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// That the host is being emptied, as the next tdxd finds it: `drain.json` in the state directory.
struct DrainRecord: StateNote {
    var purpose: DrainPurpose
    /// RFC 3339, UTC.
    var since: String
    /// How running TDs are ended.
    var policy: StopPolicy
    /// The boot in which it began; nil where the kernel did not show it.
    var bootID: String?

    /// Of this boot.
    static var currentBootID: String? {
        (try? TextFile.read("/proc/sys/kernel/random/boot_id", limit: 64)).map { String($0.prefix { !$0.isNewline }) }
    }

    /// What it was for has come: another kernel runs.
    func isFulfilled(in boot: String?) -> Bool {
        guard purpose == .kexec || purpose == .shutdown, let bootID, let boot else { return false }
        return bootID != boot
    }

    enum CodingKeys: String, CodingKey {
        case purpose, since, policy
        case bootID = "boot_id"
    }

    static let name = "drain.json"

    /// Moves a file that cannot be understood out of the way, to be looked at: `drain.json.unreadable`, or that with a number.
    /// - Returns: where it is now; nil where there was none.
    static func setAside(in directory: String) throws(LinuxError) -> String? {
        let path = directory + "/" + name
        for number in 0..<100 {
            let target = path + ".unreadable" + (number == 0 ? "" : "-\(number)")
            // The directory is tdxd's own: nothing appears there between the look and the move.
            guard (try? FileStatus(ofPath: target, followingLinks: false)) == nil else { continue }
            if rename(path, target) == 0 { return target }
            if errno == ENOENT { return nil }
            throw LinuxError("rename", Errno(rawValue: errno), detail: path)
        }
        throw LinuxError("rename", .fileExists, detail: path + ".unreadable")
    }

    static func remove(in directory: String) throws(LinuxError) {
        let path = directory + "/" + name
        guard unlink(path) == 0 || errno == ENOENT else {
            throw LinuxError("unlink", Errno(rawValue: errno), detail: path)
        }
    }
}
