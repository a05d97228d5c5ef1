/// Changes of a node that only the caller holds and that need not be widened first.
extension AttributeNode {
    /// Sets the pages `first ..< end` (numbers within the node) and returns how many were in another state.
    /// - Complexity: O(leaves touched).
    func set(_ first: Int, _ end: Int, to state: PageState) -> Int {
        let before = pages(in: state)
        if shape == .sparse {
            setSparse(first, end, to: state)
        } else {
            setFlat(first, end, to: state)
        }
        return pages(in: state) - before
    }

    /// As `set` for one page and a settled state, in a node that is not mixed; 1 when the page was in another state, otherwise 0.
    /// - Complexity: O(1).
    @inline(__always)
    func set(_ page: Int, settled state: PageState) -> UInt64 {
        guard isSettled else {
            guard entries[page &>> 9] != Entry(state.rawValue) else { return 0 }
            return setPart(leaf: page &>> 9, page & 511, page & 511 &+ 1, to: state) ? 1 : 0
        }
        // Without a branch; see `ChangeLog.append`.
        let word = settledPlane + page &>> 6
        let shift = UInt64(truncatingIfNeeded: page & 63)
        let value = word.pointee
        let (old, new) = (value &>> shift & 1, UInt64(state.rawValue))
        let difference = old ^ new
        word.pointee = value ^ difference &<< shift
        counts &+= new &- old
        groups[page &>> 12] &+= UInt16(truncatingIfNeeded: new &- old)
        return difference
    }

    // MARK: Flat

    private func setFlat(_ first: Int, _ end: Int, to state: PageState) {
        let planes = planes
        var page = first
        while page < end {
            let group = page &>> 12
            let stop = min(end, (group &+ 1) &* MapGeometry.pagesPerGroup)
            let change = planes.set(page, stop, to: state)
            counts &+= change.counts
            groups[group] &+= UInt16(truncatingIfNeeded: change.low)
            page = stop
        }
    }

    // MARK: Sparse

    private func setSparse(_ first: Int, _ end: Int, to state: PageState) {
        var page = first
        while page < end {
            let leaf = page &>> 9
            let start = leaf &<< 9
            let stop = min(end, start &+ MapGeometry.pagesPerLeaf)
            if entries[leaf] != Entry(state.rawValue) {
                if stop &- page == MapGeometry.pagesPerLeaf {
                    setWhole(leaf: leaf, to: state)
                } else {
                    _ = setPart(leaf: leaf, page &- start, stop &- start, to: state)
                }
            }
            page = stop
        }
    }

    private func setWhole(leaf: Int, to state: PageState) {
        let entry = entries[leaf]
        let pages = MapGeometry.pagesPerLeaf
        let old = entry < 4 ? PackedCounts.unit(UInt64(entry)) &* UInt64(pages) : planes(entry).counts(0, pages)
        counts &+= PackedCounts.unit(UInt64(state.rawValue)) &* UInt64(pages) &- old
        collapse(leaf: leaf, to: state)
    }

    /// Returns whether anything changed.
    private func setPart(leaf: Int, _ first: Int, _ end: Int, to state: PageState) -> Bool {
        let entry = entries[leaf]
        let planes = entry < 4 ? expand(leaf: leaf) : planes(entry)
        let delta = planes.set(first, end, to: state).counts
        guard delta != 0 else { return false }
        counts &+= delta
        // Most leaves differ within the word that changed: only where they do not, the others are looked at.
        if planes.low[first &>> 6] == state.lowPlane, planes.uniformState(words: MapGeometry.wordsPerLeaf) == state {
            collapse(leaf: leaf, to: state)
        }
        return true
    }

    /// Gives a uniform leaf its slot.
    private func expand(leaf: Int) -> PagePlanes {
        let slot = header.pointee.pool!.take()
        let planes = header.pointee.pool!.slot(slot)
        planes.initialize(PageState(bits: UInt(entries[leaf])), words: MapGeometry.wordsPerLeaf)
        entries[leaf] = Entry(slot + 4)
        return planes
    }

    /// Makes a leaf uniform and takes its slot back, if it had one.
    private func collapse(leaf: Int, to state: PageState) {
        let entry = entries[leaf]
        entries[leaf] = Entry(state.rawValue)
        guard entry >= 4 else { return }
        header.pointee.pool!.giveBack(Int32(entry) - 4)
        if header.pointee.pool!.isThin { thinPool() }
    }

    /// Moves the fragmented leaves into a smaller pool once most slots have been given back.
    private func thinPool() {
        let old = header.pointee.pool!
        header.pointee.pool = SlotPool(slots: old.capacity / 2)
        for leaf in 0..<MapGeometry.leavesPerNode where entries[leaf] >= 4 {
            entries[leaf] = take(old.slot(Int32(entries[leaf]) - 4))
        }
        old.destroy()
    }
}
