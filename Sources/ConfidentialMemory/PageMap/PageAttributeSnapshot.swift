public import MemoryUnits

/// The attributes of a guest at one moment. Immutable; it shares what has not changed since with the map.
public final class PageAttributeSnapshot: @unchecked Sendable {
    // Sendable is sound: the directory is not written after init, and nodes are written only by who holds the one
    // reference to them.
    private let directory: AttributeDirectory
    /// The last change that the snapshot contains.
    public let sequence: UInt64

    init(taking directory: AttributeDirectory, sequence: UInt64) {
        self.directory = directory
        self.sequence = sequence
    }

    deinit { directory.destroy() }

    /// The state of one page.
    /// - Precondition: the page lies in `PageAttributeMap.space`.
    public subscript(frame: GuestFrameNumber) -> PageState {
        directory.state(frame.rawValue)
    }

    /// The maximal runs of a range, in order.
    public func runs(in frames: Range<GuestFrameNumber>) -> [PageRun] {
        precondition(PageAttributeMap.holds(frames), "a range exceeds 16 TiB")
        var runs: [PageRun] = []
        directory.forEachRun(frames.lowerBound.rawValue, frames.upperBound.rawValue) { start, end, state in
            runs.append(PageRun(GuestFrameNumber(start)..<GuestFrameNumber(end), state))
            return true
        }
        return runs
    }

    /// Pages of a range by state.
    public func counts(in frames: Range<GuestFrameNumber>) -> PageStateCounts {
        precondition(PageAttributeMap.holds(frames), "a range exceeds 16 TiB")
        return PageStateCounts(directory.counts(frames.lowerBound.rawValue, frames.upperBound.rawValue))
    }

    /// Where `later` differs, as maximal runs of one pair of states, in order.
    /// - Complexity: O(GiBs) for what both share, and as `runs(in:)` for the rest.
    public func difference(to later: PageAttributeSnapshot) -> [PageDifference] {
        var result: [PageDifference] = []
        for number in 0..<max(directory.count, later.directory.count)
        where directory.entry(number) != later.directory.entry(number) {
            let first = UInt64(number) << 18
            let end = first + UInt64(MapGeometry.pagesPerNode)
            let (before, after) = (stretches(first, end), later.stretches(first, end))
            var (page, old, new) = (first, 0, 0)
            while page < end {
                let stop = min(before[old].end, after[new].end)
                if before[old].state != after[new].state {
                    Self.append(page, stop, before[old].state, after[new].state, to: &result)
                }
                if before[old].end == stop { old += 1 }
                if after[new].end == stop { new += 1 }
                page = stop
            }
        }
        return result
    }

    /// Where each run of a range ends, and its state.
    private func stretches(_ first: UInt64, _ end: UInt64) -> [(end: UInt64, state: PageState)] {
        var stretches: [(end: UInt64, state: PageState)] = []
        directory.forEachRun(first, end) { _, end, state in
            stretches.append((end, state))
            return true
        }
        return stretches
    }

    private static func append(
        _ start: UInt64, _ end: UInt64, _ before: PageState, _ after: PageState, to result: inout [PageDifference]
    ) {
        if let last = result.last, last.frames.upperBound.rawValue == start, last.before == before, last.after == after
        {
            result[result.count - 1].frames = last.frames.lowerBound..<GuestFrameNumber(end)
        } else {
            result.append(
                PageDifference(frames: GuestFrameNumber(start)..<GuestFrameNumber(end), before: before, after: after))
        }
    }
}

/// A run of pages that changed from one state to another between two snapshots.
public struct PageDifference: Hashable, Sendable {
    public var frames: Range<GuestFrameNumber>
    public var before: PageState
    public var after: PageState
}
