internal import CLinux
public import MemoryUnits
package import SystemPackage

/// The calls that treat a file as memory. They serve memfds and guest_memfds alike, by descriptor number.
public enum FileMemory {
    /// fallocate(KEEP_SIZE): every page of the range becomes present.
    ///
    /// A guest_memfd's call that a signal interrupts keeps its pages and reports no progress, so it is made again. It
    /// is made 2 MiB at a time: walking over what is already there takes time too, and signals that come often would
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

    /// Bytes of the range that are present: by cachestat(2), and where the kernel lacks it by `sharedMemoryBytes`,
    /// which knows memfds alone. Pages that come or go meanwhile may be counted or not.
    /// - Parameter length: 0 means to the end of the file.
    /// - Throws: ENOSYS for a guest_memfd on a kernel without cachestat(2).
    /// - Complexity: about 40 ns a page that is present, nothing for others.
    public static func residentBytes(
        descriptor: Int32, offset: ByteCount = .zero, length: ByteCount = .zero
    ) throws(LinuxError) -> ByteCount {
        do throws(LinuxError) {
            return try countedInPieces(descriptor, offset, length)
        } catch {
            guard error.errno == .noFunction, tdxd_is_shmem(descriptor) == 1 else { throw error }
            return try sharedMemoryBytes(descriptor: descriptor, offset: offset, length: length)
        }
    }

    /// The most that one cachestat(2) is asked for where pages are present: in one call over gigabytes each page takes
    /// twice as long (80 to 95 ns against 40 to 48, Linux 6.18 in a virtual machine).
    private static let countedPiece = ByteCount.mebibytes(64)

    private static func countedInPieces(
        _ descriptor: Int32, _ offset: ByteCount, _ length: ByteCount
    ) throws(LinuxError) -> ByteCount {
        if length != .zero, length <= countedPiece { return try cachestat(descriptor, offset, length) }
        let size = try FileStatus(ofDescriptor: descriptor).size
        var rest = offset < size ? size - offset : .zero
        if length != .zero { rest = min(rest, length) }
        // The kernel refuses what has no size.
        guard rest > .zero else { return try cachestat(descriptor, offset, length) }
        var sum = ByteCount.zero
        var start = offset
        var piece = countedPiece
        while rest > .zero {
            let part = min(piece, rest)
            let found = try cachestat(descriptor, start, part)
            sum += found
            start += part
            rest -= part
            // Where nothing is present a call costs the same whatever it covers.
            piece = found == .zero ? part + part : countedPiece
        }
        return sum
    }

    private static func cachestat(
        _ descriptor: Int32, _ offset: ByteCount, _ length: ByteCount
    ) throws(LinuxError) -> ByteCount {
        var counters = tdxd_cachestat()
        try LinuxError.retrying("cachestat", detail(offset, length)) {
            tdxd_cachestat_range(descriptor, offset.rawValue, length.rawValue, &counters)
        }
        return PageCount(counters.nr_cache).bytes
    }

    private static func detail(_ offset: ByteCount, _ length: ByteCount) -> String {
        "offset 0x\(String(offset.rawValue, radix: 16)), \(length)"
    }
}
