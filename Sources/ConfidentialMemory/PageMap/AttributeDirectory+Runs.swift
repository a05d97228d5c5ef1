extension AttributeDirectory {
    /// Hands over the maximal runs of `first ..< end` in order until `body` answers false.
    @inlinable @inline(__always)
    func forEachRun(_ first: UInt64, _ end: UInt64, _ body: (UInt64, UInt64, PageState) -> Bool) {
        guard first < end else { return }
        var run = OpenRun(start: first, state: UInt64(self.state(first).rawValue))
        var page = first
        while page < end {
            let number = Int(truncatingIfNeeded: page &>> 18)
            guard number < count else {
                guard run.reach(page, 0, body) else { return }
                break
            }
            let entry = entries[number]
            let stop = min(end, (page | 0x3_ffff) &+ 1)
            if entry < 4 {
                guard run.reach(page, UInt64(entry), body) else { return }
            } else {
                let node = AttributeNode(entry)
                let isWanted =
                    node.shape == .sparse
                    ? node.forEachSparseRun(page, stop, &run, body)
                    : run.read(node.planes, of: page & ~0x3_ffff, page, stop, body)
                guard isWanted else { return }
            }
            page = stop
        }
        _ = body(run.start, end, PageState(bits: UInt(run.state)))
    }
}

/// A run whose end has not been found yet.
@usableFromInline
struct OpenRun {
    @usableFromInline var start: UInt64
    @usableFromInline var state: UInt64

    @inlinable
    init(start: UInt64, state: UInt64) {
        self.start = start
        self.state = state
    }

    /// Goes on at `page`, where the state is `next`; false when no more runs are wanted.
    @inlinable @inline(__always)
    mutating func reach(_ page: UInt64, _ next: UInt64, _ body: (UInt64, UInt64, PageState) -> Bool) -> Bool {
        next == state || turn(page, next, body)
    }

    /// Ends at `page`, where the state is another one.
    @inlinable @inline(__always)
    mutating func turn(_ page: UInt64, _ next: UInt64, _ body: (UInt64, UInt64, PageState) -> Bool) -> Bool {
        let isWanted = body(start, page, PageState(bits: UInt(state)))
        start = page
        state = next
        return isWanted
    }

    /// Goes through `first ..< end`, whose planes begin at page `base`, a multiple of 64.
    @inlinable @inline(__always)
    mutating func read(
        _ planes: PagePlanes, of base: UInt64, _ first: UInt64, _ end: UInt64,
        _ body: (UInt64, UInt64, PageState) -> Bool
    ) -> Bool {
        var page = first
        while page < end {
            let word = Int(truncatingIfNeeded: page &- base) &>> 6
            let low = planes.low[word]
            let high = planes.high?[word] ?? 0
            let stop = min(end, (page | 63) &+ 1)
            if high == 0, state < 2, stop &- page == 64 {
                // Settled pages alone, as nearly always: states take turns.
                var borders = low ^ (low &<< 1 | state)
                while borders != 0 {
                    let border = page &+ UInt64(truncatingIfNeeded: borders.trailingZeroBitCount)
                    guard turn(border, state ^ 1, body) else { return false }
                    borders &= borders &- 1
                }
            } else {
                guard read(low, high, page, stop, body) else { return false }
            }
            page = stop
        }
        return true
    }

    /// Goes through `first ..< end`, which lie in one word of each plane, whatever their states.
    @inlinable @inline(__always)
    mutating func read(
        _ low: UInt64, _ high: UInt64, _ first: UInt64, _ end: UInt64, _ body: (UInt64, UInt64, PageState) -> Bool
    ) -> Bool {
        // The page in front is given the state of the run, and what lies further in front is not looked at.
        let begin: UInt64 = 1 &<< (first & 63)
        let lowBefore = low &<< 1 & ~begin | (state & 1) &* begin
        let highBefore = high &<< 1 & ~begin | (state &>> 1) &* begin
        var borders = (low ^ lowBefore) | (high ^ highBefore)
        borders &= (0 &- begin) & (~0 &>> (63 &- (end &- 1) & 63))
        while borders != 0 {
            let bit = UInt64(truncatingIfNeeded: borders.trailingZeroBitCount)
            let next = low &>> bit & 1 | (high &>> bit & 1) &<< 1
            guard turn(first & ~63 &+ bit, next, body) else { return false }
            borders &= borders &- 1
        }
        return true
    }
}

extension AttributeNode {
    @inlinable @inline(__always)
    func forEachSparseRun(
        _ first: UInt64, _ end: UInt64, _ run: inout OpenRun, _ body: (UInt64, UInt64, PageState) -> Bool
    ) -> Bool {
        var page = first
        while page < end {
            let stop = min(end, (page | 0x1ff) &+ 1)
            let entry = entries[Int(truncatingIfNeeded: page &>> 9) & (MapGeometry.leavesPerNode &- 1)]
            if entry < 4 {
                guard run.reach(page, UInt64(entry), body) else { return false }
            } else {
                guard run.read(planes(entry), of: page & ~0x1ff, page, stop, body) else { return false }
            }
            page = stop
        }
        return true
    }
}
