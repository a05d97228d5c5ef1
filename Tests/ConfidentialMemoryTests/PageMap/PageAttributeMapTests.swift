import MemoryUnits
import Testing

@testable import ConfidentialMemory

@Suite struct PageAttributeMapTests {
    @Test func `everything is shared at first, over all 16 TiB and for 8 bytes`() {
        let map = PageAttributeMap()
        #expect(map.runs(in: PageAttributeMap.space) == [run(0..<(1 << 32), .shared)])
        #expect(map.counts(in: PageAttributeMap.space)[.shared] == PageCount(1 << 32))
        #expect(map.next(.private, in: PageAttributeMap.space) == nil)
        #expect(map.storageSize == ByteCount(8))
        #expect(map.sequence == 0)
    }

    @Test func `the last page of the space can be set and found`() {
        var map = PageAttributeMap()
        let last = frames(((1 << 32) - 1)..<(1 << 32))
        #expect(map.set(last, to: .private) == PageCount(1))
        #expect(map[last.lowerBound] == .private)
        #expect(map.next(.private, in: PageAttributeMap.space) == last.lowerBound)
        #expect(map.counts(in: PageAttributeMap.space)[.private] == PageCount(1))
    }

    @Test func `uniform gigabytes cost eight bytes each`() {
        var map = PageAttributeMap()
        let terabyte = frames(0..<(1 << 28))
        #expect(map.set(terabyte, to: .private) == PageCount(1 << 28))
        #expect(map.storageSize == ByteCount(8 * 1024))
        map.set(frames(1_000..<1_001), to: .shared)
        #expect(map.storageSize < ByteCount(8 * 1024 + 2_048))
        map.set(frames(1_000..<1_001), to: .private)
        #expect(map.storageSize == ByteCount(8 * 1024), "a node that has become uniform is given back")
        #expect(map.brokenInvariant() == nil)
    }

    @Test func `the worst fragmentation stays within two bits a page and three per cent, at every moment`() {
        var map = PageAttributeMap()
        let pages = 2 * MapGeometry.pagesPerNode
        let bound = ByteCount(UInt64(Double(pages) / 4 * 1.03))
        for page in stride(from: 0, to: pages, by: 2) {
            map.set(frames(page..<(page + 1)), to: .private)
            if page % 4096 == 0 { #expect(map.storageSize <= bound) }
        }
        #expect(map.storageSize <= bound)
        #expect(map.counts(in: frames(0..<pages))[.private] == PageCount(UInt64(pages / 2)))
        for page in stride(from: 1, to: pages, by: 2) { map.set(frames(page..<(page + 1)), to: .private) }
        #expect(map.storageSize == ByteCount(16))
        #expect(map.runs(in: frames(0..<pages)) == [run(0..<pages, .private)])
    }

    @Test func `setting what is so already changes nothing and takes no number`() {
        var map = PageAttributeMap()
        map.set(frames(5..<900), to: .private)
        #expect(map.set(frames(6..<800), to: .private) == .zero)
        #expect(map.set(frames(4_000..<5_000), to: .shared) == .zero)
        #expect(map.set(frames(0..<0), to: .private) == .zero)
        #expect(map.sequence == 1)
    }

    @Test func `pages in transition count as private and are counted apart`() {
        var map = PageAttributeMap()
        map.set(frames(0..<10), to: .private)
        map.set(frames(10..<13), to: .convertingToPrivate)
        map.set(frames(13..<15), to: .convertingToShared)
        let counts = map.counts(in: frames(0..<20))
        #expect(counts.converting == PageCount(5))
        #expect(counts.total == PageCount(20))
        #expect(PageState.allCases.map(\.countsAsPrivate) == [false, true, true, true])
    }

    @Test func `a snapshot is unaffected by what comes later`() {
        var map = PageAttributeMap()
        map.set(frames(0..<300_000), to: .private)
        map.set(frames(1_000..<1_007), to: .shared)
        let snapshot = map.snapshot()
        let before = snapshot.runs(in: frames(0..<400_000))
        map.set(frames(1_002..<1_003), to: .private)
        map.set(frames(2_000..<2_001), to: .convertingToShared)
        map.set(frames(262_144..<524_288), to: .shared)
        #expect(snapshot.runs(in: frames(0..<400_000)) == before)
        #expect(snapshot.sequence == 2)
        #expect(
            snapshot.difference(to: map.snapshot()) == [
                PageDifference(frames: frames(1_002..<1_003), before: .shared, after: .private),
                PageDifference(frames: frames(2_000..<2_001), before: .private, after: .convertingToShared),
                PageDifference(frames: frames(262_144..<300_000), before: .private, after: .shared),
            ])
        #expect(map.brokenInvariant() == nil)
    }

    @Test func `a snapshot outlives its map`() {
        func make() -> PageAttributeSnapshot {
            var map = PageAttributeMap()
            map.set(frames(7..<8), to: .private)
            return map.snapshot()
        }
        #expect(make().runs(in: frames(6..<9)) == [run(6..<7, .shared), run(7..<8, .private), run(8..<9, .shared)])
    }

    @Test func `a reader that is too far behind or ahead is told to take a snapshot`() {
        var map = PageAttributeMap(changeCapacity: 4)
        for page in 0..<6 { map.set(frames(page * 2..<page * 2 + 1), to: .private) }
        #expect(map.changes(since: 1) == .tooFarBehind)
        #expect(map.changes(since: 7) == .tooFarBehind)
        #expect(map.changes(since: 6) == .changes([]))
        guard case .changes(let changes) = map.changes(since: 2) else {
            Issue.record("four changes are kept")
            return
        }
        #expect(changes.map(\.sequence) == [3, 4, 5, 6])
        #expect(changes.first?.run == run(4..<5, .private))
    }

    @Test func `runs can be left early`() {
        var map = PageAttributeMap()
        map.set(frames(3..<4), to: .private)
        var seen = 0
        map.forEachRun(in: frames(0..<10)) { _ in
            seen += 1
            return seen < 2
        }
        #expect(seen == 2)
    }
}
