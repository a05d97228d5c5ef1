/// The states of some pages as two planes of one bit a page: bit 0 of all states, and bit 1, which is set in transition alone
/// and is not kept where no page is on its way.
///
/// A view of memory that a node owns.
@usableFromInline
struct PagePlanes {
    @usableFromInline let low: UnsafeMutablePointer<UInt64>
    @usableFromInline let high: UnsafeMutablePointer<UInt64>?

    @inlinable
    init(low: UnsafeMutablePointer<UInt64>, high: UnsafeMutablePointer<UInt64>?) {
        self.low = low
        self.high = high
    }

    /// The planes from a word on.
    @inlinable
    func from(word: Int) -> Self { Self(low: low + word, high: high.map { $0 + word }) }

    @inlinable
    func state(_ page: Int) -> PageState {
        let shift = UInt64(truncatingIfNeeded: page & 63)
        var bits = low[page &>> 6] &>> shift & 1
        if let high { bits |= (high[page &>> 6] &>> shift & 1) &<< 1 }
        return PageState(bits: UInt(truncatingIfNeeded: bits))
    }

    /// Initializes so many words with one state, or with those of other planes.
    func initialize(_ state: PageState, words: Int) {
        low.initialize(repeating: state.lowPlane, count: words)
        high?.initialize(repeating: state.highPlane, count: words)
    }

    func initialize(from other: Self, words: Int) {
        low.initialize(from: other.low, count: words)
        guard let high else { return }
        if let source = other.high {
            high.initialize(from: source, count: words)
        } else {
            high.initialize(repeating: 0, count: words)
        }
    }

    /// The state that all pages of so many words are in; nil when they differ.
    func uniformState(words: Int) -> PageState? {
        let state = state(0)
        for word in 0..<words where low[word] != state.lowPlane { return nil }
        if let high {
            for word in 0..<words where high[word] != state.highPlane { return nil }
        }
        return state
    }

    /// Sets the pages `first ..< end` and returns what the counts change by, and how many more pages have their low bit set.
    /// There is a high plane if the state needs one.
    func set(_ first: Int, _ end: Int, to state: PageState) -> (counts: UInt64, low: Int) {
        let lastWord = (end &- 1) &>> 6
        var (removed, added, lowBits) = (UInt64(0), UInt64(0), 0)
        for word in first &>> 6...lastWord {
            let mask = MapGeometry.mask(
                word == first &>> 6 ? first & 63 : 0, word == lastWord ? (end &- 1) & 63 : 63)
            let (oldLow, oldHigh) = (low[word], high?[word] ?? 0)
            let changed = ((oldLow ^ state.lowPlane) | (oldHigh ^ state.highPlane)) & mask
            if changed == 0 { continue }
            removed &+= PackedCounts.of(oldLow, oldHigh, mask: changed)
            added &+= UInt64(truncatingIfNeeded: changed.nonzeroBitCount)
            let newLow = oldLow & ~mask | state.lowPlane & mask
            lowBits &+= newLow.nonzeroBitCount &- oldLow.nonzeroBitCount
            low[word] = newLow
            if let high { high[word] = oldHigh & ~mask | state.highPlane & mask }
        }
        return (added &* PackedCounts.unit(UInt64(state.rawValue)) &- removed, lowBits)
    }

    /// Counts of the pages `first ..< end`.
    func counts(_ first: Int, _ end: Int) -> UInt64 {
        guard first < end else { return 0 }
        let (firstWord, lastWord) = (first &>> 6, (end &- 1) &>> 6)
        let head: UInt64 = ~0 &<< UInt64(truncatingIfNeeded: first & 63)
        let tail: UInt64 = ~0 &>> UInt64(truncatingIfNeeded: 63 &- (end &- 1) & 63)
        if firstWord == lastWord { return counts(word: firstWord, mask: head & tail) }
        var result = counts(word: firstWord, mask: head) &+ counts(word: lastWord, mask: tail)
        if high == nil {
            for word in firstWord &+ 1..<lastWord { result &+= UInt64(truncatingIfNeeded: low[word].nonzeroBitCount) }
        } else {
            for word in firstWord &+ 1..<lastWord { result &+= counts(word: word, mask: ~0) }
        }
        return result
    }

    @inline(__always)
    private func counts(word: Int, mask: UInt64) -> UInt64 {
        PackedCounts.of(low[word], high?[word] ?? 0, mask: mask)
    }
}

extension PageState {
    /// Bit 0 of the state, of 64 pages.
    @inlinable var lowPlane: UInt64 { 0 &- UInt64(rawValue & 1) }
    /// Bit 1 of the state, of 64 pages.
    @inlinable var highPlane: UInt64 { 0 &- UInt64(rawValue &>> 1) }
}
