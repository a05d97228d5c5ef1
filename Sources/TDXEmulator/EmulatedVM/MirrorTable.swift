internal import MemoryUnits

/// What KVM remembers of a TD's Secure EPT: which 4 KiB pages are mapped and which table pages it handed to the module.
/// It mirrors the module's tables so that a removal visits mapped pages only, whatever the range's size.
///
/// Cost: 37 KiB per GiB of guest-physical space in which anything was ever mapped, nothing elsewhere. Not thread-safe:
/// the owner's mmu_lock orders everything, with `claim…` inside a small lock of its own.
struct MirrorTable {
    /// 1 GiB of guest-physical space: 512 leaf tables of 512 pages.
    final class Block {
        /// One bit per 4 KiB page.
        var present = [UInt64](repeating: 0, count: 512 * 8)
        /// Mapped pages of each leaf table.
        var mappedPages = [UInt16](repeating: 0, count: 512)
        /// Host frame of each leaf table's page; 0 where the module has none yet.
        var tablePages = [UInt64](repeating: 0, count: 512)
    }

    /// Key: guest-physical address >> 30.
    private var blocks: [UInt64: Block] = [:]
    /// Tables above the leaf tables. Key: level of the entry that points to the table, and the entry's address.
    private var upperTables: [UpperTable: HostPhysicalAddress] = [:]
    private(set) var mappedPageCount = PageCount.zero
    private(set) var tablePageCount: UInt64 = 0

    struct UpperTable: Hashable {
        var level: UInt64
        var address: UInt64
    }

    /// The entries between the root and the leaf table of `address` that have no table yet, highest level first.
    func missingTables(for address: GuestPhysicalAddress, rootLevel: UInt64) -> [UpperTable] {
        var missing: [UpperTable] = []
        for level in (1...rootLevel).reversed() {
            let start = Self.start(of: address, level: level)
            if !hasTable(UpperTable(level: level, address: start)) {
                missing.append(UpperTable(level: level, address: start))
            }
        }
        return missing
    }

    func hasTable(_ table: UpperTable) -> Bool {
        guard table.level == 1 else { return upperTables[table] != nil }
        guard let block = blocks[table.address >> 30] else { return false }
        return block.tablePages[Self.leafIndex(table.address)] != 0
    }

    mutating func addTable(_ table: UpperTable, page: HostPhysicalAddress) {
        tablePageCount += 1
        guard table.level == 1 else {
            upperTables[table] = page
            return
        }
        block(at: table.address).tablePages[Self.leafIndex(table.address)] = page.rawValue
    }

    func isMapped(_ address: GuestPhysicalAddress) -> Bool {
        guard let block = blocks[address.rawValue >> 30] else { return false }
        let page = Self.pageIndex(address.rawValue)
        return block.present[page / 64] & 1 << UInt64(page % 64) != 0
    }

    mutating func setMapped(_ address: GuestPhysicalAddress) {
        let block = block(at: address.rawValue)
        let page = Self.pageIndex(address.rawValue)
        precondition(block.present[page / 64] & 1 << UInt64(page % 64) == 0, "\(address) is mapped already")
        block.present[page / 64] |= 1 << UInt64(page % 64)
        block.mappedPages[page / 512] += 1
        mappedPageCount += PageCount(1)
    }

    mutating func clearMapped(_ address: GuestPhysicalAddress) {
        let block = block(at: address.rawValue)
        let page = Self.pageIndex(address.rawValue)
        precondition(block.present[page / 64] & 1 << UInt64(page % 64) != 0, "\(address) is not mapped")
        block.present[page / 64] &= ~(1 << UInt64(page % 64))
        block.mappedPages[page / 512] -= 1
        mappedPageCount = mappedPageCount - PageCount(1)
    }

    /// The first mapped page at or after `address` and before `end`.
    ///
    /// - Complexity: O(gibibytes in use) to find the block, then one word per 64 absent pages of a non-empty table.
    func nextMapped(from address: GuestPhysicalAddress, before end: GuestPhysicalAddress) -> GuestPhysicalAddress? {
        guard mappedPageCount > .zero, address < end else { return nil }
        var position = address.rawValue
        while position < end.rawValue {
            guard let block = blocks[position >> 30] else {
                // Step over blocks that do not exist, however many there are.
                guard let next = blocks.keys.filter({ $0 > position >> 30 }).min() else { return nil }
                position = next << 30
                continue
            }
            if let found = Self.nextMapped(in: block, from: position) {
                return found < end.rawValue ? GuestPhysicalAddress(found) : nil
            }
            position = (position >> 30 + 1) << 30
        }
        return nil
    }

    /// Every table page, in no order; the table is empty afterwards.
    mutating func takeTables() -> [HostPhysicalAddress] {
        var pages = Array(upperTables.values)
        for block in blocks.values {
            pages.append(contentsOf: block.tablePages.lazy.filter { $0 != 0 }.map { HostPhysicalAddress($0) })
        }
        upperTables = [:]
        blocks = [:]
        tablePageCount = 0
        return pages
    }

    private mutating func block(at address: UInt64) -> Block {
        if let block = blocks[address >> 30] { return block }
        let block = Block()
        blocks[address >> 30] = block
        return block
    }

    private static func nextMapped(in block: Block, from position: UInt64) -> UInt64? {
        var page = pageIndex(position)
        while page < 512 * 512 {
            if block.mappedPages[page / 512] == 0 {
                page = (page / 512 + 1) * 512
                continue
            }
            let word = block.present[page / 64] >> UInt64(page % 64)
            if word != 0 { return (position >> 30) << 30 + UInt64(page + word.trailingZeroBitCount) * pageSize }
            page = (page / 64 + 1) * 64
        }
        return nil
    }

    /// The first address that an entry of `level` maps, for the entry that maps `address`.
    static func start(of address: GuestPhysicalAddress, level: UInt64) -> UInt64 {
        address.rawValue & ~(1 << (12 + 9 * level) - 1)
    }

    private static func leafIndex(_ address: UInt64) -> Int { Int(address >> 21 & 511) }
    private static func pageIndex(_ address: UInt64) -> Int { Int(address >> 12 & 0x3_FFFF) }
}
