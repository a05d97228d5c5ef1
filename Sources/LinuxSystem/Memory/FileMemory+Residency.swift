internal import CLinux
package import MemoryUnits
internal import SystemPackage

extension FileMemory {
    /// Whether this kernel has cachestat(2): Linux 6.5 and later, unless built without it.
    public static let hasCachestat: Bool = {
        var counters = tdxd_cachestat()
        // No descriptor has the number −1: EBADF is the answer of a kernel that has the call.
        return tdxd_cachestat_range(-1, 0, 0, &counters) != -Errno.noFunction.rawValue
    }()

    /// How `residentBytes` counts a memfd on this kernel, for evidence.
    public static var residencyMethod: String {
        hasCachestat ? "cachestat(2)" : "fstat(2) and SEEK_DATA (no cachestat(2))"
    }

    /// Bytes of a memfd's range that take memory or swap, without cachestat(2).
    ///
    /// A whole file is counted by its blocks: shmem charges each page to them when it comes and takes it off when it
    /// goes. For a part, lseek(2) walks over data and holes. To lseek(2) a page that fallocate(2) made and no process
    /// has touched is a hole, so such pages count for the whole file and not for a part; `MemoryFile.allocate` leaves
    /// none.
    /// - Parameter length: 0 means to the end of the file.
    /// - Complexity: a part costs one pass over its pages.
    package static func sharedMemoryBytes(
        descriptor: Int32, offset: ByteCount = .zero, length: ByteCount = .zero
    ) throws(LinuxError) -> ByteCount {
        let status = try FileStatus(ofDescriptor: descriptor)
        let toEnd = length == .zero || length >= status.size
        if offset == .zero, toEnd { return ByteCount(status.blocks * 512) }
        guard offset < status.size else { return .zero }
        let end = toEnd || length > status.size - offset ? status.size : offset + length
        var sum = ByteCount.zero
        var position = offset
        while position < end, let data = try seek(descriptor, from: position, toData: true), data < end {
            // After the last data there is a hole at the end of the file.
            let hole = min(try seek(descriptor, from: data, toData: false) ?? end, end)
            sum += hole - data
            position = hole
        }
        return sum
    }

    /// Nil: there is none before the end of the file.
    private static func seek(_ descriptor: Int32, from: ByteCount, toData: Bool) throws(LinuxError) -> ByteCount? {
        let found = tdxd_seek_content(descriptor, from.rawValue, toData ? 1 : 0)
        if found == -Int64(Errno.noSuchAddressOrDevice.rawValue) { return nil }
        guard found >= 0 else {
            throw LinuxError(
                toData ? "lseek(SEEK_DATA)" : "lseek(SEEK_HOLE)", Errno(rawValue: Int32(-found)),
                detail: "offset \(from)")
        }
        return ByteCount(UInt64(found))
    }
}
