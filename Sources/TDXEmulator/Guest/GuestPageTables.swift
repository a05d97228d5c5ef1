public import MemoryUnits
internal import TransitionModel

/// What conversions cost a guest, in the units of `TransitionReport`.
public struct TransitionCounts: Hashable, Sendable {
    /// Pages of the range.
    public var pages = 0
    /// Writes to page-table entries, those of alias mappings included.
    public var pageTableTouches = 0
    /// Flushes of every CPU's TLB; one counts once, however many CPUs there are.
    public var tlbFlushes = 0
    public var cacheFlushes = 0
    /// MapGPA calls, repeated ones included.
    public var notifications = 0

    public init() {}

    static func += (a: inout Self, b: Self) {
        a.pages += b.pages
        a.pageTableTouches += b.pageTableTouches
        a.tlbFlushes += b.tlbFlushes
        a.cacheFlushes += b.cacheFlushes
        a.notifications += b.notifications
    }
}

/// The page tables of a guest's kernel: four levels, shared by all CPUs of one TD, each of which has a TLB of its own.
///
/// All of the guest's memory is mapped in the linear map, where a virtual address is arithmetic; `map(_:)` maps pages once
/// more in an area like vmalloc's, where only the tables know the frame of an address. Whatever a TLB holds goes on being
/// used after the tables changed, until a flush.
public final class GuestPageTables: @unchecked Sendable {
    /// Guest-physical addresses below this, 64 TiB, are in the linear map.
    public static let linearSize = ByteCount(1 << 46)
    static let linearBase = GuestVirtualAddress(0xFFFF_8880_0000_0000)
    private static let linearPages = linearBase.page..<(linearBase + linearSize).page
    static let vmallocBase = GuestVirtualAddress(0xFFFF_C900_0000_0000)

    // Sound: everything below is touched with `lock` held, which is taken inside a vCPU's guest lock and never around it.
    private let lock = Lock()
    /// Tables of 512 entries; an entry above the last level is the number of a table, shifted, and PRESENT. 0 is the root.
    private var tables = [[UInt64](repeating: 0, count: 512)]
    /// By frame: the pages that map it outside the linear map.
    private var aliases: [UInt64: [UInt64]] = [:]
    private var nextMapping = vmallocBase.page
    private var tlbs: [UInt32: WeakTLB] = [:]
    private var total = TransitionCounts()

    private struct WeakTLB {
        weak var tlb: GuestTLB?
    }

    public init() {}

    /// What all conversions on these tables cost so far.
    public var counts: TransitionCounts { lock.withLock { total } }

    // MARK: Mappings

    /// Where the linear map has an address.
    /// - Precondition: the address is below `linearSize`.
    public func linear(_ address: GuestPhysicalAddress) -> GuestVirtualAddress {
        precondition(address.rawValue < Self.linearSize.rawValue, "\(address) lies beyond the linear map")
        return Self.linearBase + ByteCount(address.rawValue)
    }

    /// Maps pages once more, in this order and one after the other, in the vmalloc-like area. They are present there, and
    /// private or shared as in the linear map.
    /// - Precondition: every page is in the linear map, and there is at least one.
    public func map(_ frames: [GuestFrameNumber]) -> GuestVirtualRange {
        precondition(!frames.isEmpty, "a mapping has at least one page")
        return lock.withLock {
            let first = nextMapping
            for (index, frame) in frames.enumerated() {
                let page = first + UInt64(index)
                let isShared = slot(linear(frame.address).page).map { entry(at: $0).isShared }!
                write(GuestPageTableEntry(frame, isShared: isShared), at: slot(page, allocating: true)!)
                aliases[frame.rawValue, default: []].append(page)
            }
            // A hole after each mapping: an access beyond it faults.
            nextMapping = first + UInt64(frames.count) + 1
            return GuestVirtualRange(
                start: GuestVirtualAddress(first * pageSize), size: ByteCount(UInt64(frames.count) * pageSize))
        }
    }

    /// The entry of an address, PRESENT or not: a walk that reads whatever is in the last level. Nil where no table is, or
    /// nothing was ever mapped.
    public func entry(of address: GuestVirtualAddress) -> GuestPageTableEntry? { entry(ofPage: address.page) }

    func entry(ofPage page: UInt64) -> GuestPageTableEntry? {
        lock.withLock {
            guard let slot = slot(page) else { return nil }
            let entry = entry(at: slot)
            return entry.rawValue == 0 ? nil : entry
        }
    }

    /// Changes an entry by one write. False where nothing is mapped.
    func change(page: UInt64, _ body: (inout GuestPageTableEntry) -> Void) -> Bool {
        lock.withLock {
            guard let slot = slot(page) else { return false }
            var entry = entry(at: slot)
            guard entry.rawValue != 0 else { return false }
            body(&entry)
            write(entry, at: slot)
            return true
        }
    }

    /// Every page that maps the same frame, the page itself included, whether or not they are present.
    func mappings(ofPage page: UInt64) -> [UInt64] {
        lock.withLock {
            guard let slot = slot(page), entry(at: slot).rawValue != 0 else { return [] }
            let frame = entry(at: slot).frame
            return [linear(frame.address).page] + (aliases[frame.rawValue] ?? [])
        }
    }

    /// The frame of a page: arithmetic in the linear map, elsewhere a table walk, which finds nothing where nothing is
    /// mapped, or where PRESENT is clear and the walk stops there.
    func frame(ofPage page: UInt64, _ translation: AddressTranslation) -> GuestFrameNumber? {
        if Self.linearPages.contains(page) { return GuestFrameNumber(page - Self.linearPages.lowerBound) }
        guard let entry = entry(ofPage: page) else { return nil }
        return entry.isPresent || translation == .walkAnyway ? entry.frame : nil
    }

    func add(_ counts: TransitionCounts) { lock.withLock { total += counts } }

    // MARK: TLBs

    /// Has flushes reach the TLB of the CPU with this number.
    func attach(_ tlb: GuestTLB, ofCPU id: UInt32) { lock.withLock { tlbs[id] = WeakTLB(tlb: tlb) } }

    /// Takes pages out of every CPU's TLB. An access that a CPU is in ends first, as one does before a CPU answers an
    /// interrupt. The caller is in no guest step.
    func flush(_ pages: [UInt64]) {
        let tlbs = lock.withLock { self.tlbs.values.compactMap(\.tlb) }
        for tlb in tlbs { tlb.flush(pages) }
    }

    // MARK: Tables

    private func entry(at slot: (table: Int, index: Int)) -> GuestPageTableEntry {
        GuestPageTableEntry(rawValue: tables[slot.table][slot.index])
    }

    private func write(_ entry: GuestPageTableEntry, at slot: (table: Int, index: Int)) {
        tables[slot.table][slot.index] = entry.rawValue
    }

    /// Where the entry of a page is; nil when a table on the way is missing. The linear map's tables are all there: they
    /// are made, present and private, when a walk first reaches them.
    private func slot(_ page: UInt64, allocating: Bool = false) -> (table: Int, index: Int)? {
        let isLinear = Self.linearPages.contains(page)
        var table = 0
        for level in (1...3).reversed() {
            let index = Int(page >> UInt64(9 * level) & 511)
            if tables[table][index] & 1 == 0 {
                guard allocating || isLinear else { return nil }
                tables[table][index] = UInt64(tables.count) << 12 | 1
                let first = (page & ~511) - (isLinear ? Self.linearPages.lowerBound : 0)
                tables.append(
                    (0..<512).map {
                        level == 1 && isLinear ? GuestPageTableEntry(GuestFrameNumber(first + $0)).rawValue : 0
                    })
            }
            table = Int(tables[table][index] >> 12)
        }
        return (table, Int(page & 511))
    }
}

/// What one CPU remembers of its guest's page tables, by virtual page.
final class GuestTLB: @unchecked Sendable {
    private let mode: GuestMode
    // Sound: touched with the vCPU's guest lock held.
    private var entries: [UInt64: GuestPageTableEntry] = [:]

    init(_ mode: GuestMode) { self.mode = mode }

    /// The guest-physical address and attribute that the CPU uses; nil for a page fault. The guest lock is held.
    func translate(
        _ address: GuestVirtualAddress, _ tables: GuestPageTables
    ) -> (address: GuestPhysicalAddress, isShared: Bool)? {
        if entries[address.page] == nil {
            guard let entry = tables.entry(ofPage: address.page), entry.isPresent else { return nil }
            entries[address.page] = entry
        }
        let entry = entries[address.page]!
        return (entry.frame.address + ByteCount(address.rawValue % pageSize), entry.isShared)
    }

    /// Forgets these pages, after the guest's step that is under way.
    func flush(_ pages: [UInt64]) { mode.lock.withLock { for page in pages { entries[page] = nil } } }
}
