import MemoryUnits
import TestSupport
import Testing

@testable import TDXEmulator

@Suite struct MirrorTableTests {
    @Test func `A walk lacks one table per level before the first page and none after`() {
        var mirror = MirrorTable()
        let address = GuestPhysicalAddress(0x40_2000)
        let missing = mirror.missingTables(for: address, rootLevel: 3)
        #expect(missing.map(\.level) == [3, 2, 1])
        #expect(missing.map(\.address) == [0, 0, 0x40_0000])
        for (index, table) in missing.enumerated() {
            mirror.addTable(table, page: HostPhysicalAddress(UInt64(index + 1) << 12))
        }
        #expect(mirror.missingTables(for: address, rootLevel: 3).isEmpty)
        #expect(mirror.missingTables(for: GuestPhysicalAddress(0x60_0000), rootLevel: 3).map(\.level) == [1])
        #expect(mirror.missingTables(for: GuestPhysicalAddress(1 << 30), rootLevel: 3).map(\.level) == [2, 1])
        #expect(mirror.missingTables(for: GuestPhysicalAddress(1 << 39), rootLevel: 3).map(\.level) == [3, 2, 1])
        #expect(Set(mirror.takeTables().map(\.rawValue)) == [1 << 12, 2 << 12, 3 << 12])
        #expect(mirror.tablePageCount == 0)
    }

    @Test func `The next mapped page is found over empty words, tables and gibibytes`() {
        var mirror = MirrorTable()
        let pages: [UInt64] = [0, 0x1000, 0x3F_F000, 0x4000_0000 - 0x1000, 5 << 30, (5 << 30) + 0x20_0000]
        pages.forEach { mirror.setMapped(GuestPhysicalAddress($0)) }
        var found: [UInt64] = []
        var next = GuestPhysicalAddress(0)
        while let page = mirror.nextMapped(from: next, before: GuestPhysicalAddress(1 << 40)) {
            found.append(page.rawValue)
            next = page + ByteCount(pageSize)
        }
        #expect(found == pages)
        #expect(mirror.nextMapped(from: GuestPhysicalAddress(0x2000), before: GuestPhysicalAddress(0x3F_F000)) == nil)
        #expect(mirror.mappedPageCount == PageCount(6))
    }

    @Test func `Random mappings are seen exactly as a set would`() {
        var generator = SeededRandom(seed: 7)
        var mirror = MirrorTable()
        var reference: Set<UInt64> = []
        for _ in 0..<4000 {
            let page =
                UInt64.random(in: 0..<2048, using: &generator) * 0x1000 + UInt64.random(in: 0...1, using: &generator)
                << 30
            let address = GuestPhysicalAddress(page)
            #expect(mirror.isMapped(address) == reference.contains(page))
            if reference.insert(page).inserted {
                mirror.setMapped(address)
            } else {
                reference.remove(page)
                mirror.clearMapped(address)
            }
        }
        let expected = reference.sorted().first { $0 >= 0x123_000 }
        let end = GuestPhysicalAddress(1 << 40)
        #expect(mirror.nextMapped(from: GuestPhysicalAddress(0x123_000), before: end)?.rawValue == expected)
        #expect(mirror.mappedPageCount == PageCount(UInt64(reference.count)))
    }
}
