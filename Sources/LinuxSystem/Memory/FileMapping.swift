internal import CLinux
public import MemoryUnits
internal import Synchronization
internal import SystemPackage

/// A shared, writable mapping of a file's part. It is left out of children (MADV_DONTFORK) and core dumps
/// (MADV_DONTDUMP): a mapping that a child inherits would keep the file's memory, and a guest's memory belongs into
/// no dump.
public final class FileMapping: MappedMemory {
    // A mapping is plain memory: the pointer may be used from any thread, what it points to is the users' to order.
    public nonisolated(unsafe) let baseAddress: UnsafeMutableRawPointer
    public let size: ByteCount
    private let isMapped = Atomic(true)

    /// mmap(MAP_SHARED).
    /// - Parameters:
    ///   - descriptor: only used during the call; the mapping keeps the file itself.
    ///   - offset: page aligned.
    ///   - size: not 0; may reach beyond the file's end, where touching raises SIGBUS.
    /// - Throws: ENODEV for a guest_memfd made without MMAP; EINVAL for an unaligned offset or size 0; ENOMEM.
    public init(
        descriptor: Int32, offset: ByteCount = .zero, size: ByteCount, writable: Bool = true
    ) throws(LinuxError) {
        var address: UnsafeMutableRawPointer?
        // PROT_READ 1, PROT_WRITE 2; MAP_SHARED 1.
        try LinuxError.check(
            tdxd_mmap(&address, size.rawValue, writable ? 3 : 1, 1, descriptor, offset.rawValue), "mmap",
            "offset 0x\(String(offset.rawValue, radix: 16)), \(size)")
        baseAddress = address!
        self.size = size
        for advice in [tdxd_madv_dontfork, tdxd_madv_dontdump] {
            let result = tdxd_madvise(baseAddress, size.rawValue, CInt(advice))
            if result < 0 {
                _ = tdxd_munmap(baseAddress, size.rawValue)
                isMapped.store(false, ordering: .relaxed)
                throw LinuxError("madvise", Errno(rawValue: -result), detail: "DONTFORK or DONTDUMP over \(size)")
            }
        }
    }

    deinit { unmap() }

    /// - Precondition: the part is page aligned and inside the mapping, which is still mapped.
    public func dropMappings(offset: ByteCount, length: ByteCount) {
        guard length != .zero else { return }
        let result = advise(tdxd_madv_dontneed, offset: offset, length: length)
        precondition(result == 0, "madvise(DONTNEED) over our own mapping fails only for wrong arguments: \(result)")
    }

    /// MADV_POPULATE_WRITE: every page of the part is allocated and mapped writable, without writing to it. Signals are
    /// resumed.
    /// - Throws: ENOMEM; EFAULT where touching would raise SIGBUS; EINVAL before Linux 5.14.
    public func populate(offset: ByteCount, length: ByteCount) throws(LinuxError) {
        guard length != .zero else { return }
        try LinuxError.retrying("madvise(POPULATE_WRITE)", "offset \(offset), \(length)") {
            advise(tdxd_madv_populate_write, offset: offset, length: length)
        }
    }

    public func unmap() {
        guard isMapped.exchange(false, ordering: .acquiringAndReleasing) else { return }
        let result = tdxd_munmap(baseAddress, size.rawValue)
        precondition(result == 0, "munmap of our own mapping fails only for wrong arguments: \(result)")
    }

    private func advise(_ advice: Int, offset: ByteCount, length: ByteCount) -> CInt {
        precondition(isMapped.load(ordering: .acquiring), "the mapping is gone")
        precondition(offset <= size && length <= size - offset, "outside the mapping")
        return tdxd_madvise(baseAddress + Int(offset.rawValue), length.rawValue, CInt(advice))
    }
}
