extension AttributeNode {
    /// Sets the pages `first ..< end` (numbers within the node) and returns how many were in another state.
    /// - Complexity: O(leaves touched).
    @usableFromInline
    func set(_ first: Int, _ end: Int, to state: PageState) -> Int {
        let before = pages(in: state)
        var page = first
        while page < end {
            let leaf = page / MapGeometry.pagesPerLeaf
            let leafStart = leaf &* MapGeometry.pagesPerLeaf
            let stop = min(end, leafStart &+ MapGeometry.pagesPerLeaf)
            if isFlat {
                let (_, delta) = write(
                    flatWords + leaf &* MapGeometry.wordsPerLeaf, page &- leafStart, stop &- leafStart, to: state)
                groups[leaf &>> 3] &+= delta
            } else if stop &- page == MapGeometry.pagesPerLeaf {
                setWhole(leaf: leaf, to: state)
            } else {
                setPart(leaf: leaf, page &- leafStart, stop &- leafStart, to: state)
            }
            page = stop
        }
        return Int(pages(in: state) &- before)
    }

    /// As `set` for one page; 1 when it was in another state, otherwise 0.
    /// - Complexity: O(1).
    @inline(__always)
    func set(_ page: Int, to state: PageState) -> UInt64 {
        if isFlat {
            let (changed, old, _) = exchange(flatWords + page &>> 5, page, state)
            // Where the page was in that state before, the two units are one and nothing changes.
            groups[page &>> 12] &+= PackedCounts.unit(UInt64(state.rawValue)) &- PackedCounts.unit(old)
            return changed
        }
        let leaf = page &>> 9
        let entry = entries[leaf]
        if entry == UInt16(state.rawValue) { return 0 }
        let words = entry < 4 ? expand(leaf: leaf) : self.words(entry)
        let (changed, _, updated) = exchange(words + (page & 511) &>> 5, page, state)
        if updated == state.pattern { collapseIfUniform(leaf: leaf, words, to: state) }
        return changed
    }

    /// Sets one page in its word and keeps the counts, without a branch; see `ChangeLog.append`.
    @inline(__always)
    private func exchange(
        _ word: UnsafeMutablePointer<UInt64>, _ page: Int, _ state: PageState
    ) -> (changed: UInt64, old: UInt64, updated: UInt64) {
        let shift = UInt64(truncatingIfNeeded: 2 &* (page & 31))
        let value = word.pointee
        let old = value &>> shift & 3
        let difference = old ^ UInt64(state.rawValue)
        let updated = value ^ difference &<< shift
        word.pointee = updated
        let changed = (difference | difference &>> 1) & 1
        let counts = counts
        counts[Int(truncatingIfNeeded: old)] &-= UInt32(truncatingIfNeeded: changed)
        counts[Int(state.rawValue)] &+= UInt32(truncatingIfNeeded: changed)
        return (changed, old, updated)
    }

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
        if write(words, first, end, to: state).touched == state.pattern {
            collapseIfUniform(leaf: leaf, words, to: state)
        }
    }

    /// Sets a part of a leaf's words, keeps the counts, and returns the last word that changed, which tells whether the
    /// leaf can have become uniform, and what the pages' `PackedCounts` have changed by.
    private func write(
        _ words: UnsafeMutablePointer<UInt64>, _ first: Int, _ end: Int, to state: PageState
    ) -> (touched: UInt64, delta: UInt64) {
        let pattern = state.pattern
        var (removed, added) = (UInt64(0), UInt64(0))
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
                let changed = (difference | difference &>> 1) & MapGeometry.lowBits
                removed &+= PackedCounts.of(old, selected: changed)
                added &+= UInt64(truncatingIfNeeded: changed.nonzeroBitCount)
                touched = old ^ difference
                words[word] = touched
            }
            word &+= 1
        }
        counts[1] &-= PackedCounts.private(removed)
        counts[2] &-= PackedCounts.convertingToPrivate(removed)
        counts[3] &-= PackedCounts.convertingToShared(removed)
        counts[0] &-= UInt32(truncatingIfNeeded: added) &- PackedCounts.sum(removed)
        counts[Int(state.rawValue)] &+= UInt32(truncatingIfNeeded: added)
        return (touched, added &* PackedCounts.unit(UInt64(state.rawValue)) &- removed)
    }

    private func collapseIfUniform(leaf: Int, _ words: UnsafeMutablePointer<UInt64>, to state: PageState) {
        let pattern = state.pattern
        for index in 0..<MapGeometry.wordsPerLeaf where words[index] != pattern { return }
        collapse(leaf: leaf, to: state)
    }

    /// Pages of each state in `first ..< end` of a leaf's words.
    static func count(_ words: UnsafePointer<UInt64>, _ first: Int, _ end: Int) -> SIMD4<UInt32> {
        let packed = PackedCounts.of(words, pages: end) &- PackedCounts.of(words, pages: first)
        return SIMD4(
            UInt32(end &- first) &- PackedCounts.sum(packed), PackedCounts.private(packed),
            PackedCounts.convertingToPrivate(packed), PackedCounts.convertingToShared(packed))
    }
}
