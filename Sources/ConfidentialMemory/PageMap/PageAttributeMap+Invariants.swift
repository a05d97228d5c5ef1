extension PageAttributeMap {
    /// Whether there are flat nodes (true) and sparse ones (false). For tests.
    var shapes: Set<Bool> {
        Set((0..<directory.count).map { directory.entries[$0] }.filter { $0 >= 4 }.map { AttributeNode($0).isFlat })
    }

    /// Recounts the whole map and names the first thing that is not as it must be; nil when all is well. For tests.
    /// - Complexity: O(nodes × leaves).
    borrowing func brokenInvariant() -> String? {
        for number in 0..<directory.count where directory.entries[number] >= 4 {
            let node = AttributeNode(directory.entries[number])
            var counted = SIMD4<UInt32>.zero
            var slots = Set<UInt16>()
            for leaf in 0..<MapGeometry.leavesPerNode {
                if node.isFlat {
                    counted &+= AttributeNode.count(node.words(leaf: leaf)!, 0, MapGeometry.pagesPerLeaf)
                    continue
                }
                let entry = node.entries[leaf]
                if entry < 4 {
                    counted[Int(entry)] += UInt32(MapGeometry.pagesPerLeaf)
                    continue
                }
                guard Int32(entry) - 4 < node.header.pointee.fresh, slots.insert(entry).inserted else {
                    return "node \(number), leaf \(leaf): slot \(entry - 4) is not its own"
                }
                let pages = AttributeNode.count(node.words(entry), 0, MapGeometry.pagesPerLeaf)
                if pages.max() == UInt32(MapGeometry.pagesPerLeaf) {
                    return "node \(number), leaf \(leaf): \(pages) is uniform but has a slot"
                }
                counted &+= pages
            }
            for group in 0..<(node.isFlat ? MapGeometry.groupsPerNode : 0) {
                let words = node.flatWords + group * MapGeometry.wordsPerGroup
                let recounted = PackedCounts.of(words, pages: MapGeometry.wordsPerGroup * 32)
                guard node.groups[group] != recounted else { continue }
                return "node \(number), group \(group): counts \(node.groups[group]), recounted \(recounted)"
            }
            if counted != node.header.pointee.counts {
                return "node \(number): counts \(node.header.pointee.counts), recounted \(counted)"
            }
            if counted.max() == UInt32(MapGeometry.pagesPerNode) { return "node \(number) is uniform: \(counted)" }
            if slots.count != Int(node.header.pointee.used) {
                return "node \(number): \(node.header.pointee.used) slots in use, recounted \(slots.count)"
            }
        }
        return nil
    }
}
