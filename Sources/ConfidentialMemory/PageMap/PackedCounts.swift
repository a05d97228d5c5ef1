/// Pages in the states private, converting to private and converting to shared, 21 bits each from bit 0 on: enough for the
/// 262,144 pages of a GiB. What is none of them is shared. Counts are added and subtracted as one number.
enum PackedCounts {
    static let laneBits: UInt64 = 21

    /// One page in a state; 0 for shared.
    @inline(__always)
    static func unit(_ state: UInt64) -> UInt64 { (1 &<< (laneBits &* state)) &>> laneBits }

    @inline(__always)
    static func `private`(_ counts: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: counts & 0x1f_ffff) }
    @inline(__always)
    static func convertingToPrivate(_ counts: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: counts &>> laneBits & 0x1f_ffff)
    }
    @inline(__always)
    static func convertingToShared(_ counts: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: counts &>> (2 &* laneBits) & 0x1f_ffff)
    }
    /// Those of `total` pages that are in a state.
    @inline(__always)
    static func pages(_ counts: UInt64, in state: UInt64, of total: Int) -> UInt32 {
        if state == 0 { return UInt32(truncatingIfNeeded: total) &- sum(counts) }
        return UInt32(truncatingIfNeeded: counts &>> (laneBits &* (state &- 1)) & 0x1f_ffff)
    }
    /// Pages that are not shared.
    @inline(__always)
    static func sum(_ counts: UInt64) -> UInt32 {
        `private`(counts) &+ convertingToPrivate(counts) &+ convertingToShared(counts)
    }

    /// The pages of a word of each plane that are in the mask.
    @inline(__always)
    static func of(_ low: UInt64, _ high: UInt64, mask: UInt64) -> UInt64 {
        if high & mask == 0 { return UInt64(truncatingIfNeeded: (low & mask).nonzeroBitCount) }
        let one = UInt64(truncatingIfNeeded: (low & ~high & mask).nonzeroBitCount)
        let two = UInt64(truncatingIfNeeded: (high & ~low & mask).nonzeroBitCount)
        let both = UInt64(truncatingIfNeeded: (low & high & mask).nonzeroBitCount)
        return one | two &<< laneBits | both &<< (2 &* laneBits)
    }
}

extension AttributeNode {
    /// Counts of the pages `first ..< end` of the node.
    /// - Complexity: O(leaves) where the node is sparse, O(groups + words of a group) where it is flat and settled; where
    ///   pages of it are in transition, O(words).
    func packedCounts(_ first: Int, _ end: Int) -> UInt64 {
        switch shape {
        case .sparse: packedCounts(sparse: first, end)
        case .settled: packedCounts(settled: end) &- packedCounts(settled: first)
        case .mixed: planes.counts(first, end)
        }
    }

    private func packedCounts(sparse first: Int, _ end: Int) -> UInt64 {
        var result: UInt64 = 0
        var page = first
        while page < end {
            let stop = min(end, (page | 511) &+ 1)
            let entry = entries[page &>> 9]
            if entry < 4 {
                result &+= UInt64(truncatingIfNeeded: stop &- page) &* PackedCounts.unit(UInt64(entry))
            } else {
                let start = page & ~511
                result &+= planes(entry).counts(page &- start, stop &- start)
            }
            page = stop
        }
        return result
    }

    private func packedCounts(settled pages: Int) -> UInt64 {
        let group = pages &>> 12
        let rest = pages & 4095
        var result: UInt64 = 0
        for index in 0..<group { result &+= UInt64(groups[index]) }
        if rest <= 2048 { return result &+ planes.counts(pages &- rest, pages) }
        // From the other end: all of the group without what follows.
        let groupEnd = (group &+ 1) &* MapGeometry.pagesPerGroup
        return result &+ UInt64(groups[group]) &- planes.counts(pages, groupEnd)
    }
}
