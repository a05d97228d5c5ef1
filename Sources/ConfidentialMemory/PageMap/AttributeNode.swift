internal import Synchronization

/// Sizes of the map's levels. A leaf is 2 MiB of guest memory, a node 1 GiB.
@usableFromInline
enum MapGeometry {
    @inlinable static var pagesPerWord: Int { 32 }
    @inlinable static var wordsPerLeaf: Int { 16 }
    @inlinable static var pagesPerLeaf: Int { 512 }
    @inlinable static var leavesPerNode: Int { 512 }
    @inlinable static var pagesPerNode: Int { 1 << 18 }
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

/// 1 GiB of guest memory whose pages are not all in one state.
///
/// One entry a leaf: below 4 the state of all its pages, otherwise 4 + the slot of its 128 bytes in the pool. Full, a
/// node takes 64 KiB of pool and 1,072 bytes beside it: 2.03 bits a page. The pool grows by doubling up to that.
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
        @usableFromInline var pool: UnsafeMutablePointer<UInt64>
        /// Leaves that have a slot.
        @usableFromInline var used: Int32
        @usableFromInline var capacity: Int32
        /// Slots from here on were never handed out.
        @usableFromInline var fresh: Int32
        /// First of the list of freed slots, chained through their first words; −1 ends it.
        @usableFromInline var free: Int32

        init(counts: SIMD4<UInt32>, pool: UnsafeMutablePointer<UInt64>, capacity: Int32) {
            references = Atomic(1)
            self.counts = counts
            self.pool = pool
            used = 0
            self.capacity = capacity
            fresh = 0
            free = -1
        }
    }

    @usableFromInline let header: UnsafeMutablePointer<Header>

    @inlinable
    init(_ bits: UInt) {
        // Sound: directory entries of 4 and above are made by `bits` below and are never zero.
        header = UnsafeMutablePointer(bitPattern: bits).unsafelyUnwrapped
    }

    @inlinable var bits: UInt { UInt(bitPattern: header) }

    @inlinable
    var entries: UnsafeMutablePointer<UInt16> {
        // Sound: `allocate` leaves room for the entries right behind the header, whose stride is a multiple of 16.
        (UnsafeMutableRawPointer(header) + MemoryLayout<Header>.stride).assumingMemoryBound(to: UInt16.self)
    }

    @inlinable
    func words(_ entry: UInt16) -> UnsafeMutablePointer<UInt64> {
        header.pointee.pool + (Int(entry) &- 4) &* MapGeometry.wordsPerLeaf
    }

    // MARK: Life

    static let byteCount = MemoryLayout<Header>.stride + MapGeometry.leavesPerNode * MemoryLayout<UInt16>.stride
    static let firstCapacity: Int32 = 4

    private static func allocate(counts: SIMD4<UInt32>, capacity: Int32) -> Self {
        let raw = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 16)
        let header = raw.bindMemory(to: Header.self, capacity: 1)
        let pool = UnsafeMutablePointer<UInt64>.allocate(capacity: Int(capacity) * MapGeometry.wordsPerLeaf)
        header.initialize(to: Header(counts: counts, pool: pool, capacity: capacity))
        let entries = (raw + MemoryLayout<Header>.stride)
            .bindMemory(to: UInt16.self, capacity: MapGeometry.leavesPerNode)
        entries.initialize(repeating: 0, count: MapGeometry.leavesPerNode)
        return Self(UInt(bitPattern: header))
    }

    /// A node all of whose pages are in one state.
    static func make(uniform state: PageState) -> Self {
        var counts = SIMD4<UInt32>.zero
        counts[Int(state.rawValue)] = UInt32(MapGeometry.pagesPerNode)
        let node = allocate(counts: counts, capacity: firstCapacity)
        node.entries.update(repeating: UInt16(state.rawValue), count: MapGeometry.leavesPerNode)
        return node
    }

    func retain() { header.pointee.references.wrappingAdd(1, ordering: .relaxed) }

    func release() {
        guard header.pointee.references.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 else {
            return
        }
        header.pointee.pool.deallocate()
        header.deinitialize(count: 1)
        UnsafeMutableRawPointer(header).deallocate()
    }

    var isUnique: Bool { header.pointee.references.load(ordering: .acquiring) == 1 }

    /// Bytes of heap that the node takes.
    var storageBytes: Int { Self.byteCount + Int(header.pointee.capacity) * MapGeometry.wordsPerLeaf * 8 }

    /// A copy that only the caller holds; freed slots are squeezed out.
    func copy() -> Self {
        var capacity = Self.firstCapacity
        while capacity < header.pointee.used { capacity *= 2 }
        let node = Self.allocate(counts: header.pointee.counts, capacity: capacity)
        move(into: node)
        return node
    }

    private func move(into node: Self) {
        var slot: Int32 = 0
        for leaf in 0..<MapGeometry.leavesPerNode {
            let entry = entries[leaf]
            guard entry >= 4 else {
                node.entries[leaf] = entry
                continue
            }
            node.entries[leaf] = UInt16(slot + 4)
            node.words(UInt16(slot + 4)).update(from: words(entry), count: MapGeometry.wordsPerLeaf)
            slot += 1
        }
        node.header.pointee.used = slot
        node.header.pointee.fresh = slot
    }

    // MARK: Slots

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
        old.deallocate()
    }
}
