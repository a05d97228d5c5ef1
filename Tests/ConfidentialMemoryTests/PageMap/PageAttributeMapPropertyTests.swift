import MemoryUnits
import TestSupport
import Testing

@testable import ConfidentialMemory

@Suite struct PageAttributeMapPropertyTests {
    /// Three GiB, so that ranges cross nodes and one node can be uniform while its neighbours are not.
    static let pages = 3 * MapGeometry.pagesPerNode

    /// Where random operations fall.
    enum Pattern: Sendable {
        /// In a few leaves on both sides of the nodes' borders: sparse nodes.
        case hot
        /// Everywhere: nodes become flat, and thin again when large ranges are set.
        case scattered
        /// As scattered, but pages in transition settle with the next step: flat nodes get and lose their second plane.
        case settling
    }

    @Test(arguments: [(0x7d5d_0001, .hot), (0x7d5d_0002, .scattered), (0x7d5d_0003, .settling)] as [(UInt64, Pattern)])
    func `random operations, a million in all, agree with a plain array`(seed: UInt64, pattern: Pattern) {
        var random = SeededRandom(seed: seed)
        let model = ArrayModel(pages: Self.pages)
        var map = PageAttributeMap(changeCapacity: 256)
        var follower = Follower()
        var shapes: Set<AttributeNode.Shape> = []
        var unsettled: Range<Int>?
        for step in 0..<350_000 {
            var range = Self.range(&random, step, pattern)
            var state = PageState(rawValue: UInt8(random.below(4)))!
            var operation = random.below(20)
            if pattern == .settling {
                if let previous = unsettled {
                    (range, state, operation) = (previous, state.isConverting ? .shared : .private, 0)
                    unsettled = nil
                } else if operation < 9, state.isConverting {
                    unsettled = range
                }
            }
            let agrees: Bool
            switch operation {
            case 0..<9:
                let sequence = map.sequence
                let changed = map.set(frames(range), to: state).rawValue
                agrees = changed == model.set(range, state) && map.sequence == sequence + (changed > 0 ? 1 : 0)
            case 9..<16:
                agrees = map[GuestFrameNumber(UInt64(range.lowerBound))].rawValue == model.states[range.lowerBound]
            case 16:
                agrees = map.next(state, in: frames(range)) == model.next(state, range)
            case 17:
                agrees = map.runs(in: frames(range)) == model.runs(range)
            default:
                let counts = map.counts(in: frames(range))
                agrees = PageState.allCases.map { counts[$0].rawValue } == model.counts(range)
            }
            guard agrees else {
                Issue.record("step \(step) of seed \(seed): \(range) \(state) differs from the model")
                return
            }
            if step % 100 == 0 { follower.follow(map) }
            if step % 997 == 996 { shapes.formUnion(map.shapes) }
            if step % 25_000 == 0, let broken = map.brokenInvariant() ?? follower.difference(from: map) {
                Issue.record("step \(step) of seed \(seed): \(broken)")
                return
            }
        }
        #expect(map.runs(in: frames(0..<Self.pages)) == model.runs(0..<Self.pages), "seed \(seed)")
        #expect(map.brokenInvariant() == nil, "seed \(seed)")
        let expected: Set<AttributeNode.Shape> =
            switch pattern {
            case .hot: [.sparse]
            case .scattered: [.sparse, .mixed]
            case .settling: [.sparse, .settled, .mixed]
            }
        #expect(shapes.isSuperset(of: expected), "seed \(seed): only \(shapes)")
    }

    /// Mostly small ranges in sixteen hot leaves, which fragment and heal; now and then whole leaves, rarely a GiB.
    private static func range(_ random: inout SeededRandom, _ step: Int, _ pattern: Pattern) -> Range<Int> {
        if step % 20_011 == 0 {
            let start = Int(random.below(UInt64(pages / 2)))
            return start..<(start + pages / 2)
        }
        if step % 499 == 0 {
            let leaf = Int(random.below(UInt64(pages / 512 - 4)))
            return (leaf * 512)..<((leaf + 1 + Int(random.below(3))) * 512)
        }
        if pattern != .hot {
            let length = step % 5_003 == 0 ? 100 * 512 + Int(random.below(100 * 512)) : 1 + Int(random.below(9) / 8)
            let start = Int(random.below(UInt64(pages - length)))
            return start..<start + length
        }
        let hot = Int(random.below(16))
        // The hot leaves lie on both sides of the borders between the nodes.
        let leaf = (hot < 8 ? 512 : 1024) - 4 + hot % 8
        let start = leaf * 512 + Int(random.below(512))
        let longest: UInt64 = random.below(8) == 0 ? 700 : 12
        return start..<min(pages, start + 1 + Int(random.below(longest)))
    }
}

/// Somebody who holds an old snapshot and catches up by the change stream.
private struct Follower: ~Copyable {
    private var copy = PageAttributeMap()
    private var sequence: UInt64 = 0

    init() {}

    mutating func follow(_ map: borrowing PageAttributeMap) {
        switch map.changes(since: sequence) {
        case .changes(let changes):
            for change in changes { copy.set(change.run.frames, to: change.run.state) }
        case .tooFarBehind:
            let old = copy.snapshot()
            let new = map.snapshot()
            for difference in old.difference(to: new) { copy.set(difference.frames, to: difference.after) }
        }
        sequence = map.sequence
    }

    mutating func difference(from map: borrowing PageAttributeMap) -> String? {
        follow(map)
        let differences = copy.snapshot().difference(to: map.snapshot())
        return differences.first.map { "a follower differs at \($0)" }
    }
}
