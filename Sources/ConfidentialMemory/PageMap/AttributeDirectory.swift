/// The top level: one entry a GiB. Below 4 the state of all its pages, otherwise the address of a node. What lies
/// behind the last entry is shared.
///
/// A handle; `PageAttributeMap` and `PageAttributeSnapshot` own what it points to.
@usableFromInline
struct AttributeDirectory {
    @usableFromInline var entries: UnsafeMutablePointer<UInt>
    @usableFromInline var count: Int

    init(capacity: Int) {
        entries = .allocate(capacity: max(capacity, 1))
        entries.initialize(repeating: 0, count: max(capacity, 1))
        count = capacity
    }

    /// A directory with references of its own to the same nodes.
    func share() -> Self {
        let copy = Self(capacity: count)
        for index in 0..<count {
            copy.entries[index] = entries[index]
            if entries[index] >= 4 { AttributeNode(entries[index]).retain() }
        }
        return copy
    }

    func destroy() {
        for index in 0..<count where entries[index] >= 4 { AttributeNode(entries[index]).release() }
        entries.deallocate()
    }

    @inlinable
    func entry(_ node: Int) -> UInt { node < count ? entries[node] : 0 }

    // MARK: Reading

    /// - Complexity: O(1).
    @inlinable
    func state(_ page: UInt64) -> PageState {
        let entry = entry(Int(truncatingIfNeeded: page >> 18))
        if entry < 4 { return PageState(bits: entry) }
        let node = AttributeNode(entry)
        let index = Int(truncatingIfNeeded: page) & (MapGeometry.pagesPerNode &- 1)
        let word: UInt64
        if node.isFlat {
            word = node.flatWords[index >> 5]
        } else {
            let leaf = node.entries[index >> 9]
            if leaf < 4 { return PageState(bits: UInt(leaf)) }
            word = node.words(leaf)[(index & 511) >> 5]
        }
        return PageState(bits: UInt(truncatingIfNeeded: word &>> UInt64(2 &* (index & 31))) & 3)
    }

    /// The state of a page and the first page behind it that may differ: the end of the run within its leaf, or of the
    /// leaf or node where that is uniform. Never behind `limit`.
    @inlinable
    func stretch(_ page: UInt64, limit: UInt64) -> (state: PageState, end: UInt64) {
        let number = Int(truncatingIfNeeded: page >> 18)
        let entry = entry(number)
        if entry < 4 {
            return (PageState(bits: entry), number < count ? min(limit, (page | 0x3_ffff) &+ 1) : limit)
        }
        let node = AttributeNode(entry)
        let index = Int(truncatingIfNeeded: page) & (MapGeometry.pagesPerNode &- 1)
        let leafEnd = min(limit, (page | 0x1ff) &+ 1)
        guard let words = node.words(leaf: index >> 9) else {
            return (PageState(bits: UInt(node.entries[index >> 9])), leafEnd)
        }
        var word = (index & 511) >> 5
        let first = index & 31
        let state = PageState(bits: UInt(truncatingIfNeeded: words[word] &>> UInt64(2 &* first)) & 3)
        let pattern = state.pattern
        var difference = (words[word] ^ pattern) & (~0 &<< UInt64(2 &* first))
        while difference == 0 {
            word &+= 1
            if word == MapGeometry.wordsPerLeaf { return (state, leafEnd) }
            difference = words[word] ^ pattern
        }
        let stop = (page & ~0x1ff) &+ UInt64(word &* 32 &+ difference.trailingZeroBitCount / 2)
        return (state, min(limit, stop))
    }

    /// Hands over the maximal runs of `first ..< end` in order until `body` answers false.
    @inlinable
    func forEachRun(_ first: UInt64, _ end: UInt64, _ body: (UInt64, UInt64, PageState) -> Bool) {
        guard first < end else { return }
        var start = first
        var (state, stop) = stretch(first, limit: end)
        while stop < end {
            let next = stretch(stop, limit: end)
            if next.state != state {
                guard body(start, stop, state) else { return }
                start = stop
                state = next.state
            }
            stop = next.end
        }
        _ = body(start, end, state)
    }

    /// The first page of `first ..< end` in a state.
    func next(_ state: PageState, _ first: UInt64, _ end: UInt64) -> UInt64? {
        var page = first
        while page < end {
            let number = Int(truncatingIfNeeded: page >> 18)
            let entry = entry(number)
            if entry < 4 {
                if entry == UInt(state.rawValue) { return page }
                guard number < count else { return nil }
                page = (page | 0x3_ffff) + 1
                continue
            }
            let node = AttributeNode(entry)
            if node.header.pointee.counts[Int(state.rawValue)] == 0 {
                page = (page | 0x3_ffff) + 1
                continue
            }
            let index = Int(truncatingIfNeeded: page) & (MapGeometry.pagesPerNode - 1)
            guard let words = node.words(leaf: index >> 9) else {
                if node.entries[index >> 9] == UInt16(state.rawValue) { return page }
                page = (page | 0x1ff) + 1
                continue
            }
            if let found = Self.next(state, words, from: index & 511) {
                let result = (page & ~0x1ff) + UInt64(found)
                return result < end ? result : nil
            }
            page = (page | 0x1ff) + 1
        }
        return nil
    }

    private static func next(_ state: PageState, _ words: UnsafePointer<UInt64>, from first: Int) -> Int? {
        var word = first >> 5
        var allowed: UInt64 = ~0 << UInt64(2 * (first & 31))
        while word < MapGeometry.wordsPerLeaf {
            let same = ~(words[word] ^ state.pattern)
            let hits = same & (same >> 1) & MapGeometry.lowBits & allowed
            if hits != 0 { return word * 32 + hits.trailingZeroBitCount / 2 }
            allowed = ~0
            word += 1
        }
        return nil
    }

    /// - Complexity: O(nodes + leaves at the two ends).
    func counts(_ first: UInt64, _ end: UInt64) -> SIMD4<UInt64> {
        var result = SIMD4<UInt64>.zero
        var page = first
        while page < end {
            let number = Int(truncatingIfNeeded: page >> 18)
            let entry = entry(number)
            let stop = number < count ? min(end, (page | 0x3_ffff) + 1) : end
            if entry < 4 {
                result[Int(entry)] += stop - page
            } else if stop - page == UInt64(MapGeometry.pagesPerNode) {
                result &+= SIMD4<UInt64>(truncatingIfNeeded: AttributeNode(entry).header.pointee.counts)
            } else {
                let base = Int(truncatingIfNeeded: page) & (MapGeometry.pagesPerNode - 1)
                result &+= Self.counts(AttributeNode(entry), base, base + Int(stop - page))
            }
            page = stop
        }
        return result
    }

    private static func counts(_ node: AttributeNode, _ first: Int, _ end: Int) -> SIMD4<UInt64> {
        var result = SIMD4<UInt32>.zero
        var page = first
        while page < end {
            let stop = min(end, (page | 511) + 1)
            if let words = node.words(leaf: page >> 9) {
                let leafStart = page & ~511
                result &+= AttributeNode.count(words, page - leafStart, stop - leafStart)
            } else {
                result[Int(node.entries[page >> 9])] &+= UInt32(stop - page)
            }
            page = stop
        }
        return SIMD4<UInt64>(truncatingIfNeeded: result)
    }
}

extension PageState {
    @inlinable
    init(bits: UInt) {
        // Sound: every caller passes two bits, and all four values are cases.
        self = unsafeBitCast(UInt8(truncatingIfNeeded: bits), to: PageState.self)
    }
}
