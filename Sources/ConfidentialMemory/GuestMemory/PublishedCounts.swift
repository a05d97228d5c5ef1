internal import LinuxSystem
internal import MemoryUnits

/// Pages that went from one state to another.
struct PageMoves {
    /// By state, in the order of `PageState`; what left a state is counted down from zero.
    private(set) var change = SIMD4<UInt64>.zero

    mutating func move(_ frames: Range<GuestFrameNumber>, from old: PageState, to new: PageState) {
        let pages = frames.pageCount.rawValue
        change[Int(old.rawValue)] &-= pages
        change[Int(new.rawValue)] &+= pages
    }
}

/// The counts of pages by state that other processes read. Conversions add what they changed: to count a large guest again
/// would take longer than all else that is written down of a small one.
struct PublishedCounts {
    let figures: PublishedFigures
    private var pages: SIMD4<UInt64>

    init(_ figures: PublishedFigures, _ counts: PageStateCounts) {
        self.figures = figures
        pages = counts.pages
        figures.publish(pages)
    }

    mutating func add(_ moves: PageMoves) {
        pages &+= moves.change
        figures.publish(pages)
    }
}
