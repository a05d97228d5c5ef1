internal import Synchronization

/// Sizes of the map's levels. A leaf is 2 MiB of guest memory, a node 1 GiB.
@usableFromInline
enum MapGeometry {
    @inlinable static var pagesPerWord: Int { 32 }
    @inlinable static var wordsPerLeaf: Int { 16 }
    @inlinable static var pagesPerLeaf: Int { 512 }
    @inlinable static var leavesPerNode: Int { 512 }
    @inlinable static var pagesPerNode: Int { 1 << 18 }
    @inlinable static var wordsPerNode: Int { 1 << 13 }
    /// A group is 16 MiB: what a flat node keeps counts of.
    @inlinable static var wordsPerGroup: Int { 1 << 7 }
    @inlinable static var groupsPerNode: Int { 1 << 6 }
    /// 16 TiB.
    @inlinable static var maximumNodes: Int { 1 << 14 }
    /// Bit 0 of every page's pair.
    @inlinable static var lowBits: UInt64 { 0x5555_5555_5555_5555 }

    /// The bits of the pages `first ... last` (0 … 31) of a word.
    @inlinable
    static func mask(_ first: Int, _ last: Int) -> UInt64 {
        (~0 &<< UInt64(2 &* first)) & (~0 &>> UInt64(2 &* (31 &- last)))
    }
}

/// 1 GiB of guest memory whose pages are not all in one state, in one of two shapes.
///
/// *Sparse*, while at most half of its leaves are fragmented: one entry a leaf, below 4 the state of all its pages,
/// otherwise 4 + the slot of its 128 bytes in a pool, which grows by doubling up to 32 KiB. *Flat*: the two bits of every
/// page in order, 64 KiB, and the counts of each 16 MiB, so that what counts the end of a range does not read all of
/// that. With its header a node never takes more than 2.02 bits a page.
///
/// A handle over manually counted memory: the map and its snapshots share nodes, and who writes must hold the only
/// reference. References are taken only by who owns one already, so a count of one cannot grow behind the writer's back.
@usableFromInline
struct AttributeNode {
    @usableFromInline
    struct Header: ~Copyable {
        let references: Atomic<Int>
        /// Pages in each state.
        @usableFromInline var counts: SIMD4<UInt32>
        /// A sparse node's leaves; nil in a flat one, whose words follow the header.
        @usableFromInline var pool: UnsafeMutablePointer<UInt64>?
        /// Leaves that have a slot.
        @usableFromInline var used: Int32 = 0
        @usableFromInline var capacity: Int32
        /// Slots from here on were never handed out.
        @usableFromInline var fresh: Int32 = 0
        /// First of the list of freed slots, chained through their first words; −1 ends it.
        @usableFromInline var free: Int32 = -1

        init(counts: SIMD4<UInt32>, pool: UnsafeMutablePointer<UInt64>?, capacity: Int32) {
            references = Atomic(1)
            self.counts = counts
            self.pool = pool
            self.capacity = capacity
        }
    }

    /// The address, with bit 3 set for a flat node. Allocations are aligned to 64 bytes.
    @usableFromInline let bits: UInt

    @inlinable
    init(_ bits: UInt) { self.bits = bits }

    @inlinable static var flatBit: UInt { 8 }
    @inlinable var isFlat: Bool { bits & Self.flatBit != 0 }

    @inlinable
    var header: UnsafeMutablePointer<Header> {
        // Sound: directory entries of 4 and above come from `bits` of an allocated node and are never zero.
        UnsafeMutablePointer(bitPattern: bits & ~Self.flatBit).unsafelyUnwrapped
    }

    /// Header and words are this far apart; entries of a sparse node lie there, too.
    @inlinable static var headerSize: UInt { 64 }

    @inlinable
    var entries: UnsafeMutablePointer<UInt16> {
        // Sound: `allocate` leaves room for a sparse node's entries behind the header.
        UnsafeMutablePointer(bitPattern: bits &+ Self.headerSize).unsafelyUnwrapped
    }

    /// A flat node's words lie so far behind its header's first byte; its groups' counts lie in between, so that a change of
    /// a page finds all counts on one page of the host.
    @inlinable static var flatWordsOffset: UInt { headerSize &+ 8 &* UInt(MapGeometry.groupsPerNode) }

    @inlinable
    var flatWords: UnsafeMutablePointer<UInt64> {
        // Sound: `allocate` leaves room for a flat node's words behind the counts. `bits` has the flat bit set.
        UnsafeMutablePointer(bitPattern: bits &+ (Self.flatWordsOffset &- Self.flatBit)).unsafelyUnwrapped
    }

    /// A flat node's counts of each group, as `PackedCounts`.
    @inlinable
    var groups: UnsafeMutablePointer<UInt64> {
        // Sound: `allocate` leaves room for them behind the header.
        UnsafeMutablePointer(bitPattern: bits &+ (Self.headerSize &- Self.flatBit)).unsafelyUnwrapped
    }

    /// Pages of the node in a state. Read as one number: as an element of the vector it would wait for the stores of the
    /// other counts.
    @inline(__always)
    func pages(in state: PageState) -> UInt32 { counts[Int(state.rawValue)] }

    /// The four counts one by one.
    @inline(__always)
    var counts: UnsafeMutablePointer<UInt32> {
        // Sound: the four lanes of `Header.counts` lie one after the other, at a multiple of 16 behind the reference count.
        UnsafeMutableRawPointer(header).advanced(by: 16).assumingMemoryBound(to: UInt32.self)
    }

    /// The words of a sparse node's slot.
    @inlinable
    func words(_ entry: UInt16) -> UnsafeMutablePointer<UInt64> {
        header.pointee.pool.unsafelyUnwrapped + (Int(entry) &- 4) &* MapGeometry.wordsPerLeaf
    }

    /// The words of a leaf; nil for one whose pages are all in the state `entries[leaf]`.
    @inlinable
    func words(leaf: Int) -> UnsafeMutablePointer<UInt64>? {
        if isFlat { return flatWords + leaf &* MapGeometry.wordsPerLeaf }
        let entry = entries[leaf]
        return entry < 4 ? nil : words(entry)
    }

    // MARK: Life

    static let firstCapacity: Int32 = 4
    static let maximumCapacity: Int32 = 256

    private static func allocate(counts: SIMD4<UInt32>, flat: Bool, capacity: Int32) -> Self {
        let behind =
            flat
            ? (MapGeometry.wordsPerNode + MapGeometry.groupsPerNode) * 8
            : MapGeometry.leavesPerNode * MemoryLayout<UInt16>.stride
        precondition(MemoryLayout<Header>.stride <= Int(headerSize))
        let raw = UnsafeMutableRawPointer.allocate(byteCount: Int(headerSize) + behind, alignment: 64)
        let pool =
            flat ? nil : UnsafeMutablePointer<UInt64>.allocate(capacity: Int(capacity) * MapGeometry.wordsPerLeaf)
        raw.bindMemory(to: Header.self, capacity: 1)
            .initialize(to: Header(counts: counts, pool: pool, capacity: capacity))
        if flat {
            (raw + Int(headerSize)).bindMemory(
                to: UInt64.self, capacity: MapGeometry.wordsPerNode + MapGeometry.groupsPerNode)
        } else {
            (raw + Int(headerSize)).bindMemory(to: UInt16.self, capacity: MapGeometry.leavesPerNode)
        }
        return Self(UInt(bitPattern: raw) | (flat ? flatBit : 0))
    }

    /// A sparse node all of whose pages are in one state.
    static func make(uniform state: PageState) -> Self {
        var counts = SIMD4<UInt32>.zero
        counts[Int(state.rawValue)] = UInt32(MapGeometry.pagesPerNode)
        let node = allocate(counts: counts, flat: false, capacity: firstCapacity)
        node.entries.initialize(repeating: UInt16(state.rawValue), count: MapGeometry.leavesPerNode)
        return node
    }

    func retain() { header.pointee.references.wrappingAdd(1, ordering: .relaxed) }

    func release() {
        guard header.pointee.references.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 else {
            return
        }
        header.pointee.pool?.deallocate()
        header.deinitialize(count: 1)
        UnsafeMutableRawPointer(header).deallocate()
    }

    var isUnique: Bool { header.pointee.references.load(ordering: .acquiring) == 1 }

    /// Bytes of heap that the node takes.
    var storageBytes: Int {
        Int(Self.headerSize)
            + (isFlat
                ? (MapGeometry.wordsPerNode + MapGeometry.groupsPerNode) * 8
                : MapGeometry.leavesPerNode * MemoryLayout<UInt16>.stride
                    + Int(header.pointee.capacity) * MapGeometry.wordsPerLeaf * 8)
    }

    // MARK: Shapes

    /// A copy of the same shape that only the caller holds; freed slots are squeezed out.
    func copy() -> Self {
        if isFlat {
            let node = Self.allocate(counts: header.pointee.counts, flat: true, capacity: 0)
            node.groups.initialize(from: groups, count: MapGeometry.groupsPerNode + MapGeometry.wordsPerNode)
            return node
        }
        var capacity = Self.firstCapacity
        while capacity < header.pointee.used { capacity *= 2 }
        let node = Self.allocate(counts: header.pointee.counts, flat: false, capacity: capacity)
        for leaf in 0..<MapGeometry.leavesPerNode {
            (node.entries + leaf).initialize(to: node.append(words(leaf: leaf), else: entries[leaf]))
        }
        return node
    }

    /// True when a sparse node may not have the slots that one more change can take: those at its two ends.
    var mustFlatten: Bool { !isFlat && header.pointee.used > Self.maximumCapacity &- 2 }

    /// The same pages as a flat node.
    func flattened() -> Self {
        let node = Self.allocate(counts: header.pointee.counts, flat: true, capacity: 0)
        for leaf in 0..<MapGeometry.leavesPerNode {
            let target = node.flatWords + leaf * MapGeometry.wordsPerLeaf
            if let words = words(leaf: leaf) {
                target.initialize(from: words, count: MapGeometry.wordsPerLeaf)
            } else {
                target.initialize(
                    repeating: UInt64(entries[leaf]) &* MapGeometry.lowBits, count: MapGeometry.wordsPerLeaf)
            }
        }
        for group in 0..<MapGeometry.groupsPerNode {
            let words = node.flatWords + group * MapGeometry.wordsPerGroup
            (node.groups + group).initialize(to: PackedCounts.of(words, pages: MapGeometry.wordsPerGroup * 32))
        }
        return node
    }

    /// The same pages as a sparse node, where at most a quarter of a flat node's leaves is fragmented; nil otherwise.
    func sparse() -> Self? {
        var used: Int32 = 0
        for leaf in 0..<MapGeometry.leavesPerNode where uniformState(leaf: leaf) == nil {
            used += 1
            if used > Self.maximumCapacity / 2 { return nil }
        }
        var capacity = Self.firstCapacity
        while capacity < used { capacity *= 2 }
        let node = Self.allocate(counts: header.pointee.counts, flat: false, capacity: capacity)
        for leaf in 0..<MapGeometry.leavesPerNode {
            let state = uniformState(leaf: leaf)
            (node.entries + leaf).initialize(
                to: node.append(state == nil ? words(leaf: leaf) : nil, else: UInt16(state?.rawValue ?? 0)))
        }
        return node
    }

    /// Takes the next slot of a new node for these words, if there are any, and says what the leaf's entry becomes.
    private func append(_ words: UnsafeMutablePointer<UInt64>?, else entry: UInt16) -> UInt16 {
        guard let words else { return entry }
        let slot = header.pointee.fresh
        self.words(UInt16(slot + 4)).initialize(from: words, count: MapGeometry.wordsPerLeaf)
        header.pointee.fresh += 1
        header.pointee.used += 1
        return UInt16(slot + 4)
    }

    /// The state that all pages of a flat node's leaf are in; nil when they differ.
    private func uniformState(leaf: Int) -> PageState? {
        let words = flatWords + leaf * MapGeometry.wordsPerLeaf
        let state = PageState(bits: UInt(truncatingIfNeeded: words[0]) & 3)
        for index in 0..<MapGeometry.wordsPerLeaf where words[index] != state.pattern { return nil }
        return state
    }

    // MARK: Slots of a sparse node

    /// Gives a uniform leaf its 128 bytes.
    @usableFromInline
    func expand(leaf: Int) -> UnsafeMutablePointer<UInt64> {
        let state = UInt64(entries[leaf])
        let slot: Int32
        if header.pointee.free >= 0 {
            slot = header.pointee.free
            header.pointee.free = Int32(truncatingIfNeeded: Int64(bitPattern: words(UInt16(slot + 4)).pointee))
        } else {
            if header.pointee.fresh == header.pointee.capacity { resizePool(to: header.pointee.capacity * 2) }
            slot = header.pointee.fresh
            header.pointee.fresh += 1
        }
        header.pointee.used += 1
        entries[leaf] = UInt16(slot + 4)
        let words = words(UInt16(slot + 4))
        words.update(repeating: state &* MapGeometry.lowBits, count: MapGeometry.wordsPerLeaf)
        return words
    }

    /// Makes a leaf uniform and takes its slot back.
    @usableFromInline
    func collapse(leaf: Int, to state: PageState) {
        let entry = entries[leaf]
        entries[leaf] = UInt16(state.rawValue)
        guard entry >= 4 else { return }
        words(entry).pointee = UInt64(bitPattern: Int64(header.pointee.free))
        header.pointee.free = Int32(entry) - 4
        header.pointee.used -= 1
        let capacity = header.pointee.capacity
        if capacity > Self.firstCapacity, header.pointee.used <= capacity / 4 { resizePool(to: capacity / 2) }
    }

    /// Moves the leaves in use, in order, into a pool of another size.
    private func resizePool(to capacity: Int32) {
        precondition(capacity <= Self.maximumCapacity, "a node this fragmented is flat")
        let old = header.pointee.pool
        let pool = UnsafeMutablePointer<UInt64>.allocate(capacity: Int(capacity) * MapGeometry.wordsPerLeaf)
        var slot: Int32 = 0
        for leaf in 0..<MapGeometry.leavesPerNode where entries[leaf] >= 4 {
            (pool + Int(slot) * MapGeometry.wordsPerLeaf)
                .initialize(from: words(entries[leaf]), count: MapGeometry.wordsPerLeaf)
            entries[leaf] = UInt16(slot + 4)
            slot += 1
        }
        header.pointee.pool = pool
        header.pointee.capacity = capacity
        header.pointee.fresh = slot
        header.pointee.free = -1
        old?.deallocate()
    }
}
