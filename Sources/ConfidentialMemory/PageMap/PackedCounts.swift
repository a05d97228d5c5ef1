/// Pages in the states private, converting to private and converting to shared, 21 bits each from bit 0 on: enough for the
/// 262,144 pages of a GiB. What is none of them is shared. Counts are added and subtracted as one number.
enum PackedCounts {
    private static let laneBits: UInt64 = 21

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
    /// Pages that are not shared.
    @inline(__always)
    static func sum(_ counts: UInt64) -> UInt32 {
        `private`(counts) &+ convertingToPrivate(counts) &+ convertingToShared(counts)
    }

    /// Pages of a word whose low bits are `selected`.
    @inline(__always)
    static func of(_ word: UInt64, selected: UInt64) -> UInt64 {
        let low = word & selected
        let high = word &>> 1 & selected
        if high == 0 { return UInt64(truncatingIfNeeded: low.nonzeroBitCount) }
        let both = UInt64(truncatingIfNeeded: (low & high).nonzeroBitCount)
        let one = UInt64(truncatingIfNeeded: low.nonzeroBitCount) &- both
        let two = UInt64(truncatingIfNeeded: high.nonzeroBitCount) &- both
        return one | two &<< laneBits | both &<< (2 &* laneBits)
    }

    /// The first pages of words.
    static func of(_ words: UnsafePointer<UInt64>, pages: Int) -> UInt64 {
        let whole = pages &>> 5
        var result: UInt64 = 0
        var word = 0
        // Two words at a time: without pages in transition their low bits fit into one.
        while word &+ 1 < whole {
            let (first, second) = (words[word], words[word &+ 1])
            if (first | second) & ~MapGeometry.lowBits == 0 {
                result &+= UInt64(truncatingIfNeeded: (first | second &<< 1).nonzeroBitCount)
            } else {
                result &+= of(first, selected: MapGeometry.lowBits) &+ of(second, selected: MapGeometry.lowBits)
            }
            word &+= 2
        }
        if word < whole { result &+= of(words[word], selected: MapGeometry.lowBits) }
        let rest = pages & 31
        if rest > 0 { result &+= of(words[whole], selected: MapGeometry.mask(0, rest &- 1) & MapGeometry.lowBits) }
        return result
    }
}

extension AttributeNode {
    /// Counts of the first pages of a flat node.
    /// - Complexity: O(groups + words of half a group).
    func packedCounts(flatPages pages: Int) -> UInt64 {
        let group = pages &>> 12
        let rest = pages & 4095
        var result: UInt64 = 0
        for index in 0..<group { result &+= groups[index] }
        guard rest > 0 else { return result }
        let words = flatWords + group &* MapGeometry.wordsPerGroup
        if rest <= 2048 { return result &+ PackedCounts.of(words, pages: rest) }
        // From the other end: all of the group without what lies behind.
        let border = (rest &+ 31) & ~31
        var behind = PackedCounts.of(words + border &>> 5, pages: 4096 &- border)
        if border > rest {
            behind &+= PackedCounts.of(
                words[rest &>> 5], selected: MapGeometry.mask(rest & 31, 31) & MapGeometry.lowBits)
        }
        return result &+ groups[group] &- behind
    }
}
