internal import CLinux
public import MemoryUnits
package import SystemPackage

/// The calls that treat a file as memory. They serve memfds and guest_memfds alike, by descriptor number.
public enum FileMemory {
    /// fallocate(KEEP_SIZE): every page of the range becomes present.
    ///
    /// A guest_memfd's call that a signal interrupts keeps its pages and reports no progress, so it is made again. It is
    /// made 2 MiB at a time: walking over what is already there takes time too, and signals that come often would
    /// otherwise stop a large range from ever being finished.
    public static func allocate(
        descriptor: Int32, offset: ByteCount, length: ByteCount
    ) throws(LinuxError) {
        guard length.rawValue <= UInt64.max - offset.rawValue else {
            throw LinuxError("fallocate(KEEP_SIZE)", .invalidArgument, detail: detail(offset, length))
        }
        var done = ByteCount.zero
        repeat {
            let start = offset + done
            // An empty range is the kernel's to refuse.
            let part = min(length - done, .mebibytes(2))
            try LinuxError.retrying("fallocate(KEEP_SIZE)", detail(start, part)) {
                tdxd_fallocate(descriptor, 1, start.rawValue, part.rawValue)
            }
            done += part
        } while done < length
    }

    /// One fallocate(KEEP_SIZE) over the first bytes of a file; the errno when it failed.
    package static func allocateOnce(descriptor: Int32, length: ByteCount) -> Errno? {
        let result = tdxd_fallocate(descriptor, 1, 0, length.rawValue)
        return result < 0 ? Errno(rawValue: -result) : nil
    }

    /// fallocate(PUNCH_HOLE | KEEP_SIZE): the range's pages are freed. Not interruptible on a guest_memfd, so the
    /// length bounds the latency: 2 MiB to 64 MiB at a time.
    public static func punchHole(
        descriptor: Int32, offset: ByteCount, length: ByteCount
    ) throws(LinuxError) {
        try LinuxError.retrying("fallocate(PUNCH_HOLE)", detail(offset, length)) {
            tdxd_fallocate(descriptor, 3, offset.rawValue, length.rawValue)
        }
    }

    /// Bytes of the range that are present: by cachestat(2), and where the kernel lacks it by `sharedMemoryBytes`, which
    /// knows memfds alone.
    /// - Parameter length: 0 means to the end of the file.
    /// - Throws: ENOSYS for a guest_memfd on a kernel without cachestat(2).
    public static func residentBytes(
        descriptor: Int32, offset: ByteCount = .zero, length: ByteCount = .zero
    ) throws(LinuxError) -> ByteCount {
        var counters = tdxd_cachestat()
        do throws(LinuxError) {
            try LinuxError.retrying("cachestat", detail(offset, length)) {
                tdxd_cachestat_range(descriptor, offset.rawValue, length.rawValue, &counters)
            }
        } catch {
            guard error.errno == .noFunction, tdxd_is_shmem(descriptor) == 1 else { throw error }
            return try sharedMemoryBytes(descriptor: descriptor, offset: offset, length: length)
        }
        return PageCount(counters.nr_cache).bytes
    }

    private static func detail(_ offset: ByteCount, _ length: ByteCount) -> String {
        "offset 0x\(String(offset.rawValue, radix: 16)), \(length)"
    }
}
