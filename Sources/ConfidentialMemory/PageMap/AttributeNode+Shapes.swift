/// How nodes change their shape.
extension AttributeNode {
    /// The slots that an entry has numbers for, after those of the four states.
    static let maximumSlots = Int32(Entry.max) - 3

    /// Whether a node cannot hold one more change, to this state, as it is: a sparse one that may not have the slots that
    /// the change takes, at its two ends, and a settled one without the plane that pages in transition need.
    @inline(__always)
    func mustWiden(for state: PageState) -> Bool {
        if isSettled { return state.isConverting }
        if isMixed { return false }
        return header.pointee.pool.unsafelyUnwrapped.used > Self.maximumSlots &- 2
    }

    /// The same pages in a shape that can hold such a change. A new node, unless it was a settled one that only the caller
    /// holds: this gets a second plane. The caller's reference to the old node becomes one to the result.
    func widened(for state: PageState) -> Self {
        if isSettled, isUnique { return mixed() }
        let node = flat(isMixed: state.isConverting || isConverting)
        release()
        return node
    }

    private func mixed() -> Self {
        let high = UnsafeMutablePointer<UInt64>.allocate(capacity: MapGeometry.wordsPerNode)
        high.initialize(repeating: 0, count: MapGeometry.wordsPerNode)
        header.pointee.high = high
        return Self(address | Self.mixedBit)
    }

    /// A mixed node that only the caller holds, without the plane that it no longer needs.
    func settled() -> Self {
        header.pointee.high?.deallocate()
        header.pointee.high = nil
        return Self(address | Self.settledBit)
    }

    /// A copy of the same shape that only the caller holds; slots given back are squeezed out.
    func copy() -> Self {
        if shape != .sparse { return flat(isMixed: isMixed) }
        let node = Self.allocateSparse(counts: counts, slots: header.pointee.pool!.used)
        for leaf in 0..<MapGeometry.leavesPerNode {
            let entry = entries[leaf]
            (node.entries + leaf).initialize(to: entry < 4 ? entry : node.take(planes(entry)))
        }
        return node
    }

    private func flat(isMixed: Bool) -> Self {
        let node = Self.allocateFlat(counts: counts, isMixed: isMixed)
        for leaf in 0..<MapGeometry.leavesPerNode {
            let target = node.planes.from(word: leaf * MapGeometry.wordsPerLeaf)
            if let source = planes(leaf: leaf) {
                target.initialize(from: source, words: MapGeometry.wordsPerLeaf)
            } else {
                target.initialize(PageState(bits: UInt(entries[leaf])), words: MapGeometry.wordsPerLeaf)
            }
        }
        let low = PagePlanes(low: node.planes.low, high: nil)
        for group in 0..<MapGeometry.groupsPerNode {
            let pages = low.from(word: group * MapGeometry.wordsPerGroup).counts(0, MapGeometry.pagesPerGroup)
            (node.groups + group).initialize(to: UInt16(pages))
        }
        return node
    }

    /// The same pages as a sparse node, where at most a quarter of a flat node's leaves is fragmented; nil otherwise.
    func thinned() -> Self? {
        var used: Int32 = 0
        for leaf in 0..<MapGeometry.leavesPerNode where uniformState(leaf: leaf) == nil {
            used += 1
            if used > Self.maximumSlots / 2 { return nil }
        }
        let node = Self.allocateSparse(counts: counts, slots: used)
        for leaf in 0..<MapGeometry.leavesPerNode {
            let entry = uniformState(leaf: leaf).map { Entry($0.rawValue) } ?? node.take(planes(leaf: leaf)!)
            (node.entries + leaf).initialize(to: entry)
        }
        return node
    }

    /// The planes of a leaf; nil for one whose pages are all in the state `entries[leaf]`.
    func planes(leaf: Int) -> PagePlanes? {
        if shape != .sparse { return planes.from(word: leaf * MapGeometry.wordsPerLeaf) }
        let entry = entries[leaf]
        return entry < 4 ? nil : planes(entry)
    }

    private func uniformState(leaf: Int) -> PageState? {
        planes(leaf: leaf)!.uniformState(words: MapGeometry.wordsPerLeaf)
    }

    /// Takes a slot for a leaf and returns the leaf's new entry.
    func take(_ planes: PagePlanes) -> Entry {
        let slot = header.pointee.pool!.take()
        header.pointee.pool!.slot(slot).initialize(from: planes, words: MapGeometry.wordsPerLeaf)
        return Entry(slot + 4)
    }
}
