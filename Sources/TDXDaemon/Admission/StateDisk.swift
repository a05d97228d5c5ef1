internal import ControlInterface
internal import Glibc
internal import MemoryUnits

/// Whether a TD's certificate will find room on disk: one that cannot be written proves nothing to anybody.
enum StateDisk {
    /// A certificate has a few KiB, and one may be replaced by another before it goes.
    static let needed = ByteCount(256 << 10)

    /// - Parameter directory: the state directory.
    /// - Throws: `ControlError.limitReached`. A file system that does not say is taken to have room.
    static func admit(_ directory: String) throws(ControlError) {
        var status = statvfs()
        guard statvfs(directory, &status) == 0 else { return }
        let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
        guard free < needed.rawValue else { return }
        throw .limitReached(
            resource: .disk, needed: needed.rawValue, available: free, limit: "free bytes of \(directory)")
    }
}
