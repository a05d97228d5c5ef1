extension AttributeNode {
    /// Sets the pages `first ..< end` (numbers within the node) and returns how many were in another state.
    /// - Complexity: O(leaves touched).
    @usableFromInline
    func set(_ first: Int, _ end: Int, to state: PageState) -> Int {
        let before = header.pointee.counts[Int(state.rawValue)]
        var page = first
        while page < end {
            let leaf = page / MapGeometry.pagesPerLeaf
            let leafStart = leaf &* MapGeometry.pagesPerLeaf
            let stop = min(end, leafStart &+ MapGeometry.pagesPerLeaf)
            if isFlat {
                _ = write(
                    flatWords + leaf &* MapGeometry.wordsPerLeaf, page &- leafStart, stop &- leafStart, to: state)
            } else if stop &- page == MapGeometry.pagesPerLeaf {
                setWhole(leaf: leaf, to: state)
            } else {
                setPart(leaf: leaf, page &- leafStart, stop &- leafStart, to: state)
            }
            page = stop
        }
        return Int(header.pointee.counts[Int(state.rawValue)] &- before)
    }

    /// As `set` for one page; 1 when it was in another state, otherwise 0.
    /// - Complexity: O(1).
    @inline(__always)
    func set(_ page: Int, to state: PageState) -> UInt64 {
        if isFlat { return exchange(flatWords + page &>> 5, page, state).changed }
        let leaf = page &>> 9
        let entry = entries[leaf]
        if entry == UInt16(state.rawValue) { return 0 }
        let words = entry < 4 ? expand(leaf: leaf) : self.words(entry)
        let (changed, updated) = exchange(words + (page & 511) &>> 5, page, state)
        if updated == state.pattern { collapseIfUniform(leaf: leaf, words, to: state) }
        return changed
    }

    /// Sets one page in its word and keeps the counts, without a branch; see `ChangeLog.append`.
    @inline(__always)
    private func exchange(
        _ word: UnsafeMutablePointer<UInt64>, _ page: Int, _ state: PageState
    ) -> (changed: UInt64, updated: UInt64) {
        let shift = UInt64(truncatingIfNeeded: 2 &* (page & 31))
        let value = word.pointee
        let old = value &>> shift & 3
        let difference = old ^ UInt64(state.rawValue)
        let updated = value ^ difference &<< shift
        word.pointee = updated
        let changed = (difference | difference &>> 1) & 1
        // Sound: the four counts lie one after the other, and both indices are below 4.
        let counts = UnsafeMutableRawPointer(header).advanced(by: Self.countsOffset)
            .assumingMemoryBound(to: UInt32.self)
        counts[Int(truncatingIfNeeded: old)] &-= UInt32(truncatingIfNeeded: changed)
        counts[Int(state.rawValue)] &+= UInt32(truncatingIfNeeded: changed)
        return (changed, updated)
    }

    private static let countsOffset = 16

    private func setWhole(leaf: Int, to state: PageState) {
        let entry = entries[leaf]
        guard entry != UInt16(state.rawValue) else { return }
        if entry < 4 {
            header.pointee.counts[Int(entry)] &-= UInt32(MapGeometry.pagesPerLeaf)
        } else {
            header.pointee.counts &-= Self.count(words(entry), 0, MapGeometry.pagesPerLeaf)
        }
        header.pointee.counts[Int(state.rawValue)] &+= UInt32(MapGeometry.pagesPerLeaf)
        collapse(leaf: leaf, to: state)
    }

    private func setPart(leaf: Int, _ first: Int, _ end: Int, to state: PageState) {
        let entry = entries[leaf]
        guard entry != UInt16(state.rawValue) else { return }
        let words = entry < 4 ? expand(leaf: leaf) : words(entry)
        if write(words, first, end, to: state) == state.pattern {
            collapseIfUniform(leaf: leaf, words, to: state)
        }
    }

    /// Sets a part of a leaf's words, keeps the counts, and returns the last word that changed, which tells whether the
    /// leaf can have become uniform.
    private func write(
        _ words: UnsafeMutablePointer<UInt64>, _ first: Int, _ end: Int, to state: PageState
    ) -> UInt64 {
        let pattern = state.pattern
        let firstWord = first >> 5
        let lastWord = (end &- 1) >> 5
        var touched = pattern
        var word = firstWord
        while word <= lastWord {
            let mask = MapGeometry.mask(
                word == firstWord ? first & 31 : 0, word == lastWord ? (end &- 1) & 31 : 31)
            let old = words[word]
            let difference = (old ^ pattern) & mask
            if difference != 0 {
                account(old, (difference | difference &>> 1) & MapGeometry.lowBits, to: state)
                touched = old ^ difference
                words[word] = touched
            }
            word &+= 1
        }
        return touched
    }

    private func collapseIfUniform(leaf: Int, _ words: UnsafeMutablePointer<UInt64>, to state: PageState) {
        let pattern = state.pattern
        for index in 0..<MapGeometry.wordsPerLeaf where words[index] != pattern { return }
        collapse(leaf: leaf, to: state)
    }

    /// Moves the pages at `changed` (their low bits) of the word `old` to `state` in the counts.
    @inline(__always)
    private func account(_ old: UInt64, _ changed: UInt64, to state: PageState) {
        let pages = UInt32(truncatingIfNeeded: changed.nonzeroBitCount)
        if old == 0 {
            header.pointee.counts[0] &-= pages
        } else {
            header.pointee.counts &-= Self.split(old, changed, pages)
        }
        header.pointee.counts[Int(state.rawValue)] &+= pages
    }

    /// Pages of each state among those at `selected` (their low bits), of which there are `pages`.
    @inline(__always)
    private static func split(_ word: UInt64, _ selected: UInt64, _ pages: UInt32) -> SIMD4<UInt32> {
        let low = word & selected
        let high = word &>> 1 & selected
        let both = UInt32(truncatingIfNeeded: (low & high).nonzeroBitCount)
        let one = UInt32(truncatingIfNeeded: low.nonzeroBitCount) &- both
        let two = UInt32(truncatingIfNeeded: high.nonzeroBitCount) &- both
        return SIMD4(pages &- one &- two &- both, one, two, both)
    }

    /// Pages of each state in `first ..< end` of a leaf's words.
    static func count(_ words: UnsafePointer<UInt64>, _ first: Int, _ end: Int) -> SIMD4<UInt32> {
        var result = SIMD4<UInt32>.zero
        let firstWord = first >> 5
        let lastWord = (end &- 1) >> 5
        var word = firstWord
        while word <= lastWord {
            let mask =
                MapGeometry.mask(word == firstWord ? first & 31 : 0, word == lastWord ? (end &- 1) & 31 : 31)
                & MapGeometry.lowBits
            result &+= split(words[word], mask, UInt32(truncatingIfNeeded: mask.nonzeroBitCount))
            word &+= 1
        }
        return result
    }
}
