internal import ControlInterface
internal import Glibc
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// Whether a TD's certificate will find room on disk: one that cannot be written proves nothing.
struct StateDisk: Sendable {
    private let directories: [(path: String, identity: FileIdentity?)]

    /// - Parameter directories: as they are now; another one in such a place is not the one that was opened to tdxd.
    init(_ directories: [String]) {
        self.directories = directories.map { ($0, try? FileStatus(ofPath: $0, followingLinks: true).identity) }
    }

    /// - Throws: as `admit(_:)` for the first directory that is not as it was.
    func admit() throws(ControlError) {
        for (path, identity) in directories {
            try Self.admit(path)
            guard let identity, let now = try? FileStatus(ofPath: path, followingLinks: true).identity else { continue }
            guard now == identity else {
                throw .tryAgain(reason: "\(path) is another directory than when tdxd was started")
            }
        }
    }

    /// A certificate has a few KiB, and one may be replaced by another before it goes.
    static let needed = ByteCount(256 << 10)
    /// A certificate is written beside the one that it replaces.
    static let neededInodes = 8

    /// - Parameter directory: the state directory.
    /// - Throws: `ControlError.limitReached`; `tryAgain` for one that cannot be written, or is gone. A file system that does not
    ///   report it is taken to have room.
    static func admit(_ directory: String) throws(ControlError) {
        guard access(directory, W_OK | X_OK) == 0 else {
            throw .tryAgain(reason: "nothing can be written in \(directory): \(Errno(rawValue: errno).name)")
        }
        var status = statvfs()
        guard statvfs(directory, &status) == 0 else { return }
        guard status.f_flag & UInt(ST_RDONLY) == 0 else {
            throw .tryAgain(reason: "nothing can be written in \(directory): EROFS")
        }
        // A file system without a fixed number of inodes reports that it has none at all.
        if status.f_files > 0, status.f_favail < neededInodes {
            throw .limitReached(
                resource: .disk, needed: UInt64(neededInodes), available: UInt64(status.f_favail),
                limit: "free inodes of \(directory)")
        }
        let free = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
        guard !free.overflow, free.partialValue < needed.rawValue else { return }
        throw .limitReached(
            resource: .disk, needed: needed.rawValue, available: free.partialValue, limit: "free bytes of \(directory)")
    }
}
