import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// A guest_memfd of 2 MiB, mapped shared at a multiple of 2 MiB, where a huge page could be.
final class AlignedMapping: MappedMemory {
    private static let length = 2 << 20

    nonisolated(unsafe) let baseAddress: UnsafeMutableRawPointer
    let size = ByteCount(UInt64(AlignedMapping.length))
    // Used by one test on one thread.
    private nonisolated(unsafe) var isMapped = true

    init(_ kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(size)
        let file = try memory.duplicateDescriptor()
        // Twice the length holds an aligned part; what lies around it goes again.
        let reserved = try Self.checked(mmap(nil, 2 * Self.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        let before = -Int(bitPattern: reserved) & (Self.length - 1)
        baseAddress = try Self.checked(
            mmap(
                reserved + before, Self.length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.rawValue, 0))
        if before > 0 { munmap(reserved, before) }
        munmap(baseAddress + Self.length, Self.length - before)
    }

    deinit { unmap() }

    private static func checked(_ address: UnsafeMutableRawPointer?) throws -> UnsafeMutableRawPointer {
        let refusal = errno
        try #require(address != MAP_FAILED, "mmap: \(Errno(rawValue: refusal))")
        return try #require(address)
    }

    /// madvise(2) over all of it, and its refusal.
    func advise(_ advice: Int32) -> Errno? {
        madvise(baseAddress, Self.length, advice) == 0 ? nil : Errno(rawValue: errno)
    }

    func dropMappings(offset: ByteCount, length: ByteCount) {
        madvise(baseAddress + Int(offset.rawValue), Int(length.rawValue), MADV_DONTNEED)
    }

    func unmap() {
        guard isMapped else { return }
        isMapped = false
        munmap(baseAddress, Self.length)
    }
}

/// MADV_COLLAPSE of linux/mman.h (Linux 6.1), which this C library's header need not have.
let collapseAdvice: Int32 = 25
