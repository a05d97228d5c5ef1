public import MemoryUnits

/// The attributes of a guest at one moment. Immutable; it shares what has not changed since with the map.
public final class PageAttributeSnapshot: @unchecked Sendable {
    // Sendable is sound: the directory is written by nobody after init, and nodes are written only by who holds the one
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
    public subscript(frame: GuestFrameNumber) -> PageState {
        precondition(frame < PageAttributeMap.space.upperBound, "a page lies behind 16 TiB")
        return directory.state(frame.rawValue)
    }

    /// The maximal runs of a range, in order.
    public func runs(in frames: Range<GuestFrameNumber>) -> [PageRun] {
        precondition(PageAttributeMap.holds(frames), "a range lies behind 16 TiB")
        var runs: [PageRun] = []
        directory.forEachRun(frames.lowerBound.rawValue, frames.upperBound.rawValue) { start, end, state in
            runs.append(PageRun(GuestFrameNumber(start)..<GuestFrameNumber(end), state))
            return true
        }
        return runs
    }

    /// Pages of a range by state.
    public func counts(in frames: Range<GuestFrameNumber>) -> PageStateCounts {
        precondition(PageAttributeMap.holds(frames), "a range lies behind 16 TiB")
        return PageStateCounts(directory.counts(frames.lowerBound.rawValue, frames.upperBound.rawValue))
    }

    /// Where `later` differs, as maximal runs of one pair of states, in order.
    /// - Complexity: O(GiBs) for what both share, and as `runs(in:)` for the rest.
    public func difference(to later: PageAttributeSnapshot) -> [PageDifference] {
        var result: [PageDifference] = []
        for number in 0..<max(directory.count, later.directory.count)
        where directory.entry(number) != later.directory.entry(number) {
            var page = UInt64(number) << 18
            let end = page + UInt64(MapGeometry.pagesPerNode)
            while page < end {
                let before = directory.stretch(page, limit: end)
                let after = later.directory.stretch(page, limit: end)
                let stop = min(before.end, after.end)
                if before.state != after.state {
                    Self.append(page, stop, before.state, after.state, to: &result)
                }
                page = stop
            }
        }
        return result
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
