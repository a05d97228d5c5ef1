internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

/// Bits of a PAMT entry's first word (reference §5.1): lock 15:0, page type 23:16, owner's TDR page number 63:24.
/// The second word is BEPOCH for REG pages; for control pages it is the slot of what they stand for.
enum PageWord {
    static let typeMask: UInt64 = 0xFF << 16
    @inline(__always) static func type(_ word: UInt64) -> UInt64 { word >> 16 & 0xFF }
    /// The owner's TDR address.
    @inline(__always) static func owner(_ word: UInt64) -> UInt64 { (word >> 24) << 12 }
    @inline(__always) static func make(_ type: PageType, owner: UInt64) -> UInt64 {
        UInt64(type.rawValue) << 16 | (owner >> 12) << 24
    }
}

/// Sizes that the PAMT knows.
enum PageSizeCode {
    static let small = 0
    static let large = 1
    static let huge = 2
}

/// The physical-address metadata tables of the whole physical space, 16 bytes per 4 KiB, 2 MiB and 1 GiB.
///
/// Locks: hardware takes the 1 GiB and 2 MiB entries shared on the way to a 4 KiB entry. Here a call marks just the
/// leaf and then looks whether a call holds an entry above it; whoever wants a large entry exclusively marks it and
/// then looks whether any entry below is held. Either sees the other, as both mark before they look, so conflicts are
/// those of hardware, without every call of every trust domain writing to one word.
struct PAMT: @unchecked Sendable {
    private let memory: ReservedMemory
    let small: AtomicWords
    let large: AtomicWords
    let huge: AtomicWords
    /// One word per GiB; not 0 when the block is initialised.
    let blocks: AtomicWords
    let blockCount: UInt64
    /// An address with any of these bits set is not a private operand: alignment, key id, beyond 52 bits.
    let invalidBits: UInt64

    init(platform: PlatformDescription) throws(PlatformError) {
        let end = platform.convertibleMemory.last!.end.rawValue
        blockCount = (end + (1 << 30) - 1) >> 30
        let gibibytes = Int(blockCount)
        let sizes = [gibibytes << 22, gibibytes << 13, gibibytes << 4, gibibytes << 3]
        memory = try ReservedMemory(byteCount: sizes.reduce(0, +))
        small = memory.words()
        large = memory.words(at: sizes[0])
        huge = memory.words(at: sizes[0] + sizes[1])
        blocks = memory.words(at: sizes[0] + sizes[1] + sizes[2])
        invalidBits = ~((1 << (52 - UInt64(platform.keyIDBits))) - 1) | 0xFFF
    }

    var residentBytes: Int { memory.residentBytes() }

    @inline(__always) func entry(_ address: UInt64, _ size: Int) -> AtomicWords {
        switch size {
        case PageSizeCode.small: small + Int(truncatingIfNeeded: (address >> 12) << 1)
        case PageSizeCode.large: large + Int(truncatingIfNeeded: (address >> 21) << 1)
        default: huge + Int(truncatingIfNeeded: (address >> 30) << 1)
        }
    }

    @inline(__always) func isInitialized(_ address: UInt64) -> Bool {
        let block = address >> 30
        return block < blockCount && blocks.at(Int(truncatingIfNeeded: block)).get() != 0
    }
}

/// A page whose PAMT entry a call has locked.
struct LockedPage {
    /// The entry's first word; its second is at `entry + 1`.
    var entry: AtomicWords
    /// The first word without its lock bits.
    var word: UInt64
    var size: Int
    var isExclusive: Bool
    /// The trust domain, when the page is a TDR: its lock then is the trust domain's own.
    var td: TD?

    @inline(__always) var type: UInt64 { PageWord.type(word) }
    @inline(__always) var owner: UInt64 { PageWord.owner(word) }
}

/// Why a page could not be locked.
enum PageLockFailure {
    case busy
    /// The walk ended at an entry of another size.
    case otherSize
    /// [late] The 2 MiB range has no PAMT pages.
    case noPAMTPages
}

extension TDXModule {
    /// Locks the 4 KiB entry of an address, or returns why not.
    @inline(__always)
    func lockSmall(_ address: UInt64, exclusive: Bool, into page: inout LockedPage?) -> PageLockFailure? {
        let entry = pamt.small + Int(truncatingIfNeeded: (address >> 12) << 1)
        var old = entry.peek()
        while true {
            if PageWord.type(old) == UInt64(PageType.tdr.rawValue) {
                return lockRoot(entry, address, exclusive: exclusive, into: &page)
            }
            if old & (exclusive ? Sharex.occupied : Sharex.exclusive) != 0 {
                // An owner below a large page is on its way out; what matters is the large page.
                return parentFailure(address) ?? .busy
            }
            let new = old & ~Sharex.hostPriority + (exclusive ? Sharex.exclusive : Sharex.reader)
            if entry.replace(old, by: new) { break }
            old = entry.peek()
        }
        let parents = (pamt.large + Int(truncatingIfNeeded: (address >> 21) << 1)).get()
        let grandparents = (pamt.huge + Int(truncatingIfNeeded: (address >> 30) << 1)).get()
        let guarded = PageWord.typeMask | Sharex.exclusive
        if (parents & guarded) != tableParentWord || grandparents & guarded != 0 {
            entry.pointee.minus(exclusive ? Sharex.exclusive : Sharex.reader)
            return parentFailure(address) ?? .busy
        }
        page = LockedPage(
            entry: entry, word: old & ~Sharex.mask, size: PageSizeCode.small, isExclusive: exclusive, td: nil)
        return nil
    }

    /// What stands above a 4 KiB entry; nil when nothing is in the way.
    @inline(never) private func parentFailure(_ address: UInt64) -> PageLockFailure? {
        let regular = UInt64(PageType.regular.rawValue)
        let large = pamt.entry(address, PageSizeCode.large).get()
        let huge = pamt.entry(address, PageSizeCode.huge).get()
        if (large | huge) & Sharex.exclusive != 0 { return .busy }
        if PageWord.type(huge) == regular || PageWord.type(large) == regular { return .otherSize }
        if usesDynamicPAMT, PageWord.type(large) != UInt64(PageType.pamt.rawValue) { return .noPAMTPages }
        return nil
    }

    /// Locks a TDR page, by its trust domain's own lock.
    @inline(never) private func lockRoot(
        _ entry: AtomicWords, _ address: UInt64, exclusive: Bool, into page: inout LockedPage?
    ) -> PageLockFailure? {
        while true {
            let word = entry.get()
            guard PageWord.type(word) == UInt64(PageType.tdr.rawValue) else { return .busy }
            let slot = entry.at(1).get()
            let td = tdBlock(slot)
            let request: TDLockRequest = exclusive ? .tdrExclusive : .tdrShared
            if tryLock(td, request) != 0 { return .busy }
            if entry.get() == word, entry.at(1).get() == slot {
                page = LockedPage(
                    entry: entry, word: word & ~Sharex.mask, size: PageSizeCode.small, isExclusive: exclusive, td: td)
                return nil
            }
            td.pointee.locks.minus(request.amount)
        }
    }

    /// Locks the entry that a walk for an address finds, whatever its size.
    func lockFound(_ address: UInt64, exclusive: Bool, into page: inout LockedPage?) -> PageLockFailure? {
        for size in [PageSizeCode.huge, PageSizeCode.large] {
            let entry = pamt.entry(address, size)
            var old = entry.get()
            while true {
                if old & Sharex.exclusive != 0 { return .busy }
                guard PageWord.type(old) == UInt64(PageType.regular.rawValue) else { break }
                if exclusive, old & Sharex.occupied != 0 { return .busy }
                if entry.replace(old, by: old + (exclusive ? Sharex.exclusive : Sharex.reader)) {
                    page = LockedPage(
                        entry: entry, word: old & ~Sharex.mask, size: size, isExclusive: exclusive, td: nil)
                    return nil
                }
                old = entry.get()
            }
        }
        if usesDynamicPAMT, PageWord.type(pamt.entry(address, PageSizeCode.large).get()) == 0 {
            // Nothing below: the free 2 MiB entry is the leaf.
            return lockEntry(address, PageSizeCode.large, exclusive: exclusive, into: &page)
        }
        return lockSmall(address, exclusive: exclusive, into: &page)
    }

    /// Locks one entry of a known size without looking further.
    func lockEntry(
        _ address: UInt64, _ size: Int, exclusive: Bool, into page: inout LockedPage?
    ) -> PageLockFailure? {
        let entry = pamt.entry(address, size)
        while true {
            let old = entry.get()
            if old & (exclusive ? Sharex.occupied : Sharex.exclusive) != 0 { return .busy }
            if entry.replace(old, by: old + (exclusive ? Sharex.exclusive : Sharex.reader)) {
                page = LockedPage(entry: entry, word: old & ~Sharex.mask, size: size, isExclusive: exclusive, td: nil)
                return nil
            }
        }
    }

    /// Whether a call holds the entry of any 4 KiB page in a 2 MiB range.
    func holdsBelow(_ address: UInt64) -> Bool {
        let first = pamt.entry(address & ~0x1F_FFFF, PageSizeCode.small)
        for index in 0..<512 {
            let word = first.at(index * 2).get()
            if PageWord.type(word) == UInt64(PageType.tdr.rawValue) {
                if tdBlock(first.at(index * 2 + 1).get()).pointee.locks.get() & Sharex.occupied != 0 { return true }
            } else if word & Sharex.occupied != 0 {
                return true
            }
        }
        return false
    }

    /// Gives a locked page back unchanged.
    @inline(__always) func unlock(_ page: LockedPage) {
        if let td = page.td {
            td.pointee.locks.minus(page.isExclusive ? Sharex.exclusive : Sharex.reader)
        } else {
            page.entry.pointee.minus(page.isExclusive ? Sharex.exclusive : Sharex.reader)
        }
    }

    /// Gives an exclusively locked page back as another.
    @inline(__always) func unlock(_ page: LockedPage, as type: PageType, owner: UInt64, second: UInt64) {
        page.entry.at(1).pointee.store(second, ordering: .relaxed)
        page.entry.set(PageWord.make(type, owner: owner))
    }

    /// Gives an exclusively locked page back as free. Release 1.5.01 leaves the owner in the entry (reference §1.6).
    @inline(__always) func free(_ page: LockedPage) {
        page.entry.set(keepsStaleOwners ? page.word & ~(PageWord.typeMask | Sharex.mask) : 0)
    }

    /// C-PRIV: a 4 KiB private operand of the given type, locked (reference §0.4).
    @inline(__always)
    func lockPrivate(
        _ address: UInt64, _ type: PageType, exclusive: Bool, _ operand: Operand, into page: inout LockedPage?
    ) -> TDXStatus {
        if address & pamt.invalidBits != 0 { return .operandInvalid.with(operand) }
        if !pamt.isInitialized(address) { return .operandAddrRangeError.with(operand) }
        if let failure = lockSmall(address, exclusive: exclusive, into: &page) {
            switch failure {
            case .busy: return .operandBusy.with(operand)
            case .otherSize: return .pageMetadataIncorrect.with(operand)
            case .noPAMTPages:
                return type == .free ? .missingPAMTPagePair.with(operand) : .pageMetadataIncorrect.with(operand)
            }
        }
        if page.unsafelyUnwrapped.type != UInt64(type.rawValue) || (usesDynamicPAMT && backsPAMT(address)) {
            unlock(page.unsafelyUnwrapped)
            page = nil
            return .pageMetadataIncorrect.with(operand)
        }
        return .success
    }

    /// C-FREE2M: a free 2 MiB range, its entry locked exclusively (reference §0.4).
    func lockFreeLarge(_ address: UInt64, _ operand: Operand, into page: inout LockedPage?) -> TDXStatus {
        if address & (pamt.invalidBits | 0x1F_FFFF) != 0 { return .operandInvalid.with(operand) }
        if !pamt.isInitialized(address) { return .operandAddrRangeError.with(operand) }
        let huge = pamt.entry(address, PageSizeCode.huge).get()
        if huge & Sharex.exclusive != 0 { return .operandBusy.with(operand) }
        if PageWord.type(huge) != 0 { return .pageMetadataIncorrect.with(operand) }
        if lockEntry(address, PageSizeCode.large, exclusive: true, into: &page) != nil {
            return .operandBusy.with(operand)
        }
        let locked = page!
        func refuse(_ status: TDXStatus) -> TDXStatus {
            unlock(locked)
            page = nil
            return status.with(operand)
        }
        if pamt.entry(address, PageSizeCode.huge).get() & Sharex.exclusive != 0 { return refuse(.operandBusy) }
        if holdsBelow(address) { return refuse(.operandBusy) }
        if locked.type != 0 { return refuse(.pageMetadataIncorrect) }
        let first = pamt.entry(address, PageSizeCode.small)
        for index in 0..<512 where first.at(index * 2).peek() & PageWord.typeMask != 0 {
            return refuse(.pageMetadataIncorrect)
        }
        if usesDynamicPAMT, backsPAMTAnywhere(address) { return refuse(.pageMetadataIncorrect) }
        return .success
    }
}
