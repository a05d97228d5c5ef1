extension PageAttributeMap {
    /// The shapes of the map's nodes. For tests.
    var shapes: Set<AttributeNode.Shape> {
        Set((0..<directory.count).map { directory.entries[$0] }.filter { $0 >= 4 }.map { AttributeNode($0).shape })
    }

    /// Recounts the whole map and names the first thing that is not as it must be; nil when all is well. For tests.
    /// - Complexity: O(nodes × leaves).
    borrowing func brokenInvariant() -> String? {
        for number in 0..<directory.count where directory.entries[number] >= 4 {
            if let broken = AttributeNode(directory.entries[number]).brokenInvariant() {
                return "node \(number), \(broken)"
            }
        }
        return nil
    }
}

extension AttributeNode {
    fileprivate func brokenInvariant() -> String? {
        var counted: UInt64 = 0
        var lowBits = [UInt64](repeating: 0, count: MapGeometry.groupsPerNode)
        for leaf in 0..<MapGeometry.leavesPerNode {
            guard let planes = planes(leaf: leaf) else {
                counted &+= PackedCounts.unit(UInt64(entries[leaf])) &* UInt64(MapGeometry.pagesPerLeaf)
                continue
            }
            counted &+= planes.counts(0, MapGeometry.pagesPerLeaf)
            lowBits[leaf / 8] += PagePlanes(low: planes.low, high: nil).counts(0, MapGeometry.pagesPerLeaf)
            if shape == .sparse, let state = planes.uniformState(words: MapGeometry.wordsPerLeaf) {
                return "leaf \(leaf): all of it is \(state), but it has a slot"
            }
        }
        if counted != counts { return "counts \(counts), recounted \(counted)" }
        if PageState.allCases.contains(where: isUniform) { return "all of it is uniform" }
        if isMixed != isConverting, shape != .sparse { return "\(shape), but converting is \(isConverting)" }
        if shape == .sparse { return brokenSlots() }
        for group in 0..<MapGeometry.groupsPerNode where UInt64(groups[group]) != lowBits[group] {
            return "group \(group): counts \(groups[group]), recounted \(lowBits[group])"
        }
        return nil
    }

    private func brokenSlots() -> String? {
        let slots = (0..<MapGeometry.leavesPerNode).filter { entries[$0] >= 4 }.map { Int32(entries[$0]) - 4 }
        let pool = header.pointee.pool!
        if let wild = slots.first(where: { $0 >= pool.fresh }) { return "slot \(wild) was never handed out" }
        if Set(slots).count != slots.count { return "a slot has two users" }
        if slots.count != Int(pool.used) { return "\(pool.used) slots in use, recounted \(slots.count)" }
        return nil
    }
}
