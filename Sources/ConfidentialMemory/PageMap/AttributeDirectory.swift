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
        let node = AttributeNode(entry)
        let index = Int(truncatingIfNeeded: page) & (MapGeometry.pagesPerNode &- 1)
        let word: UInt64
        // First, because it is where memory is slowest; the four states have no flat bit.
        if node.isFlat {
            word = node.flatWords[index &>> 5]
        } else if entry < 4 {
            return PageState(bits: entry)
        } else {
            let leaf = node.entries[index &>> 9]
            if leaf < 4 { return PageState(bits: UInt(leaf)) }
            word = node.words(leaf)[(index & 511) &>> 5]
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
        var page = first
        var state = UInt(self.state(first).rawValue)
        while page < end {
            let number = Int(truncatingIfNeeded: page &>> 18)
            let entry = entry(number)
            if entry < 4 {
                if entry != state {
                    guard body(start, page, PageState(bits: state)) else { return }
                    start = page
                    state = entry
                }
                guard number < count else { break }
                page = (page | 0x3_ffff) &+ 1
                continue
            }
            let node = AttributeNode(entry)
            let leaf = Int(truncatingIfNeeded: page &>> 9) & (MapGeometry.leavesPerNode &- 1)
            let leafEnd = (page | 0x1ff) &+ 1
            guard let words = node.words(leaf: leaf) else {
                let uniform = UInt(node.entries[leaf])
                if uniform != state {
                    guard body(start, page, PageState(bits: state)) else { return }
                    start = page
                    state = uniform
                }
                page = leafEnd
                continue
            }
            let stop = min(end, leafEnd)
            // Pages in front of `first` are not looked at: they would seem to begin runs.
            var allowed: UInt64 = ~0 &<< (2 &* (page & 31))
            while page < stop {
                let value = words[Int(truncatingIfNeeded: page & 0x1ff) &>> 5]
                let wordStart = page & ~31
                // Pages that differ from the page in front of them; for the first one looked at that is `state`.
                let shifted = value &<< 2
                let low = allowed & (0 &- allowed)
                let before = (shifted & ~(low | low &<< 1)) | UInt64(state) &* low
                var difference = value ^ before
                difference = (difference | difference &>> 1) & MapGeometry.lowBits & allowed
                if stop < wordStart &+ 32 {
                    difference &= ~(~0 &<< (2 &* (stop &- wordStart)))
                }
                while difference != 0 {
                    let bit = UInt64(truncatingIfNeeded: difference.trailingZeroBitCount)
                    let border = wordStart &+ bit &>> 1
                    guard body(start, border, PageState(bits: state)) else { return }
                    start = border
                    state = UInt(truncatingIfNeeded: value &>> bit & 3)
                    difference &= difference &- 1
                }
                allowed = ~0
                page = wordStart &+ 32
            }
        }
        _ = body(start, end, PageState(bits: state))
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

    /// - Complexity: O(nodes, and leaves or groups at the two ends).
    @usableFromInline
    func counts(_ first: UInt64, _ end: UInt64) -> SIMD4<UInt64> {
        var (toPrivate, toShared, privately) = (UInt64(0), UInt64(0), UInt64(0))
        var page = first
        while page < end {
            let number = Int(truncatingIfNeeded: page &>> 18)
            // Behind the last entry everything is shared.
            guard number < count else { break }
            let entry = entries[number]
            let stop = min(end, (page | 0x3_ffff) &+ 1)
            if entry < 4 {
                let pages = stop &- page
                switch entry {
                case 1: privately &+= pages
                case 2: toPrivate &+= pages
                case 3: toShared &+= pages
                default: break
                }
            } else if stop &- page == UInt64(MapGeometry.pagesPerNode) {
                let counts = AttributeNode(entry).counts
                privately &+= UInt64(counts[1])
                toPrivate &+= UInt64(counts[2])
                toShared &+= UInt64(counts[3])
            } else {
                let base = Int(truncatingIfNeeded: page) & (MapGeometry.pagesPerNode &- 1)
                let part = Self.counts(AttributeNode(entry), base, base &+ Int(truncatingIfNeeded: stop &- page))
                privately &+= UInt64(PackedCounts.private(part))
                toPrivate &+= UInt64(PackedCounts.convertingToPrivate(part))
                toShared &+= UInt64(PackedCounts.convertingToShared(part))
            }
            page = stop
        }
        return SIMD4(end &- first &- privately &- toPrivate &- toShared, privately, toPrivate, toShared)
    }

    private static func counts(_ node: AttributeNode, _ first: Int, _ end: Int) -> UInt64 {
        if node.isFlat { return node.packedCounts(flatPages: end) &- node.packedCounts(flatPages: first) }
        var result: UInt64 = 0
        var page = first
        while page < end {
            let stop = min(end, (page | 511) &+ 1)
            let entry = node.entries[page &>> 9]
            if entry < 4 {
                result &+= UInt64(truncatingIfNeeded: stop &- page) &* PackedCounts.unit(UInt64(entry))
            } else {
                let words = node.words(entry)
                let start = page & ~511
                result &+= PackedCounts.of(words, pages: stop &- start)
                if page > start { result &-= PackedCounts.of(words, pages: page &- start) }
            }
            page = stop
        }
        return result
    }
}

extension PageState {
    @inlinable
    init(bits: UInt) {
        // Sound: every caller passes two bits, and all four values are cases.
        self = unsafeBitCast(UInt8(truncatingIfNeeded: bits), to: PageState.self)
    }
}
