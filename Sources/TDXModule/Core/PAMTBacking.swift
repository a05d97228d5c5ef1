internal import MemoryUnits
internal import Synchronization

/// [late] Which 4 KiB pages back dynamic PAMT: one bit each (reference §5.4).
struct PAMTBacking: @unchecked Sendable {
    private let memory: ReservedMemory
    private let words: AtomicWords

    init(platform: PlatformDescription) throws(PlatformError) {
        let end = platform.convertibleMemory.last!.end.rawValue
        memory = try ReservedMemory(byteCount: Int((end >> 12) / 8 + 4096))
        words = memory.words()
    }

    var residentBytes: Int { memory.residentBytes() }

    func contains(_ address: UInt64) -> Bool {
        let page = address >> 12
        return words.at(Int(page >> 6)).get() >> (page & 63) & 1 != 0
    }

    /// Marks a page; false when it was marked already.
    func insert(_ address: UInt64) -> Bool {
        let page = address >> 12
        let bit: UInt64 = 1 << (page & 63)
        return words.at(Int(page >> 6)).pointee.bitwiseOr(bit, ordering: .acquiringAndReleasing).oldValue & bit == 0
    }

    func remove(_ address: UInt64) {
        let page = address >> 12
        words.at(Int(page >> 6)).pointee.bitwiseAnd(~(1 << (page & 63)), ordering: .acquiringAndReleasing)
    }

    /// Whether any page of a 2 MiB range backs a PAMT.
    func intersects(large address: UInt64) -> Bool {
        let first = Int((address >> 21) << 3)
        return (0..<8).contains { words.at(first + $0).get() != 0 }
    }
}

extension TDXModule {
    func backsPAMT(_ address: UInt64) -> Bool { backing.contains(address) }
    func backsPAMTAnywhere(_ address: UInt64) -> Bool { backing.intersects(large: address) }

    /// [late] Bit 62 when the PAMT pages of the address's 2 MiB range can be removed now: nothing of it is in use.
    func removalHint(_ address: UInt64) -> UInt64 {
        let parent = pamt.entry(address, PageSizeCode.large).get()
        guard PageWord.type(parent) & 0x1F == UInt64(PageType.pamt.rawValue) else { return 0 }
        let first = pamt.entry(address & ~0x1F_FFFF, PageSizeCode.small)
        for index in 0..<512 where first.at(index * 2).get() & PageWord.typeMask != 0 { return 0 }
        return 1 << 62
    }
}
