internal import Glibc
internal import MemoryUnits
internal import Synchronization

/// 64-bit words that several threads change without a lock of the language.
typealias AtomicWords = UnsafeMutablePointer<Atomic<UInt64>>

/// Address space for metadata. Pages cost memory from their first write on; until then they read as zeros.
///
/// The metadata of a whole physical address space is one flat array, so that an entry is found by arithmetic alone.
final class ReservedMemory: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let byteCount: Int

    init(byteCount: Int) throws(PlatformError) {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0)
        guard let address, address != MAP_FAILED else {
            throw .noAddressSpace(bytes: ByteCount(UInt64(byteCount)), errno: errno)
        }
        base = address
        self.byteCount = byteCount
    }

    deinit { munmap(base, byteCount) }

    /// Bytes of the range that cost memory now, by mincore(2).
    func residentBytes() -> Int {
        let chunk = 256 << 20
        var pages = [UInt8](repeating: 0, count: chunk / 4096)
        var resident = 0
        for offset in stride(from: 0, to: byteCount, by: chunk) {
            let length = min(chunk, byteCount - offset)
            guard mincore(base + offset, length, &pages) == 0 else { continue }
            for page in 0..<(length + 4095) / 4096 where pages[page] & 1 != 0 { resident += 4096 }
        }
        return resident
    }

    /// The range as atomic words. Sound: a zero-filled word is a valid `Atomic<UInt64>` of 0, which has the layout of
    /// its value, and nothing else is ever bound to this memory.
    func words(at offset: Int = 0) -> AtomicWords {
        (base + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
    }
}

extension UnsafeMutablePointer where Pointee == Atomic<UInt64> {
    @inline(__always) func get() -> UInt64 { pointee.load(ordering: .sequentiallyConsistent) }
    @inline(__always) func peek() -> UInt64 { pointee.load(ordering: .relaxed) }
    @inline(__always) func set(_ value: UInt64) { pointee.store(value, ordering: .releasing) }
    /// True when the word was `expected` and now is `desired`.
    @inline(__always) func replace(_ expected: UInt64, by desired: UInt64) -> Bool {
        pointee.compareExchange(expected: expected, desired: desired, ordering: .sequentiallyConsistent).exchanged
    }
}

extension Atomic<UInt64> {
    @inline(__always) borrowing func get() -> UInt64 { load(ordering: .acquiring) }
    @inline(__always) borrowing func set(_ value: UInt64) { store(value, ordering: .releasing) }
    @inline(__always) borrowing func plus(_ value: UInt64) {
        wrappingAdd(value, ordering: .acquiringAndReleasing)
    }
    @inline(__always) borrowing func minus(_ value: UInt64) {
        wrappingSubtract(value, ordering: .acquiringAndReleasing)
    }
    @inline(__always) borrowing func replace(_ expected: UInt64, by desired: UInt64) -> Bool {
        compareExchange(expected: expected, desired: desired, ordering: .acquiringAndReleasing).exchanged
    }
    /// Changes some bits and keeps the others.
    borrowing func update(_ mask: UInt64, to bits: UInt64) {
        var old = get()
        while true {
            let result = compareExchange(
                expected: old, desired: old & ~mask | bits & mask, ordering: .acquiringAndReleasing)
            if result.exchanged { return }
            old = result.original
        }
    }
}
