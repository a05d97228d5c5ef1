/// The top level: one entry a GiB. Below 4 the state of all its pages, otherwise the address of a node. What lies
/// after the last entry is shared.
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

    /// - Precondition: the page lies in `PageAttributeMap.space`. Pages that have an entry do, and need no look at that.
    /// - Complexity: O(1).
    @inlinable @inline(__always)
    func state(_ page: UInt64) -> PageState {
        let number = Int(truncatingIfNeeded: page &>> 18)
        guard number < count else {
            precondition(number < MapGeometry.maximumNodes, "a page lies beyond 16 TiB")
            return .shared
        }
        let node = AttributeNode(entries[number])
        // First what lies where memory is slowest; the four states have no bit of a shape.
        if node.isSettled {
            let word = node.settledPlane[Int(truncatingIfNeeded: page &>> 6) & (MapGeometry.wordsPerNode &- 1)]
            return PageState(bits: UInt(truncatingIfNeeded: word &>> (page & 63)) & 1)
        }
        return node.bits < 4 ? PageState(bits: node.bits) : node.unsettledState(page)
    }

    /// The first page of `first ..< end` in a state.
    /// - Complexity: as `forEachRun`, but a GiB without such a page is passed over.
    func next(_ state: PageState, _ first: UInt64, _ end: UInt64) -> UInt64? {
        var page = first
        while page < end {
            let number = Int(truncatingIfNeeded: page >> 18)
            let stop = number < count ? min(end, (page | 0x3_ffff) + 1) : end
            let entry = entry(number)
            if entry < 4 {
                if entry == UInt(state.rawValue) { return page }
            } else if AttributeNode(entry).pages(in: state) > 0 {
                var found: UInt64?
                forEachRun(page, stop) { start, _, runState in
                    if runState == state { found = start }
                    return found == nil
                }
                if let found { return found }
            }
            page = stop
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
            // After the last entry everything is shared.
            guard number < count else { break }
            let entry = entries[number]
            let stop = min(end, (page | 0x3_ffff) &+ 1)
            let pages = stop &- page
            let part: UInt64
            if entry < 4 {
                part = pages &* PackedCounts.unit(UInt64(entry))
            } else if pages == UInt64(MapGeometry.pagesPerNode) {
                part = AttributeNode(entry).counts
            } else {
                let base = Int(truncatingIfNeeded: page) & (MapGeometry.pagesPerNode &- 1)
                part = AttributeNode(entry).packedCounts(base, base &+ Int(truncatingIfNeeded: pages))
            }
            privately &+= UInt64(PackedCounts.private(part))
            toPrivate &+= UInt64(PackedCounts.convertingToPrivate(part))
            toShared &+= UInt64(PackedCounts.convertingToShared(part))
            page = stop
        }
        return SIMD4(end &- first &- privately &- toPrivate &- toShared, privately, toPrivate, toShared)
    }
}

extension PageState {
    @inlinable
    init(bits: UInt) {
        // Sound: every caller passes two bits, and all four values are cases.
        self = unsafeBitCast(UInt8(truncatingIfNeeded: bits), to: PageState.self)
    }
}
