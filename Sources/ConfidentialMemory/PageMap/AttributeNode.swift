internal import Synchronization

/// 1 GiB of guest memory whose pages are not all in one state.
///
/// - *Sparse*, while at most 252 of its 512 leaves are fragmented: one byte a leaf, its entry, below 4 the state of all its
///   pages, otherwise 4 + the slot of its 128 bytes.
/// - *Flat* otherwise: the low plane of all pages in order, 32 KiB, and the counts of each group, so that what counts the
///   end of a range does not read all in front of it. A flat node is *mixed* while pages of it are in transition, and has
///   a high plane then, another 32 KiB; else it is *settled*.
///
/// A node never takes more than 2.01 bits a page.
///
/// A handle over manually counted memory: the map and its snapshots share nodes, and who writes must hold the only
/// reference. References are taken only by who owns one already, so a count of one cannot grow unseen by the writer.
@usableFromInline
struct AttributeNode {
    @usableFromInline
    struct Header: ~Copyable {
        let references: Atomic<Int>
        /// Pages by state, as `PackedCounts`.
        var counts: UInt64
        /// The fragmented leaves of a sparse node; nil in a flat one.
        @usableFromInline var pool: SlotPool?
        /// The high plane of a mixed node; nil in others.
        @usableFromInline var high: UnsafeMutablePointer<UInt64>?

        init(counts: UInt64, pool: SlotPool?) {
            references = Atomic(1)
            self.counts = counts
            self.pool = pool
        }
    }

    @usableFromInline
    enum Shape: Sendable {
        case sparse
        case settled
        case mixed
    }

    /// The address, with a bit set for the shape. Allocations are aligned to 64 bytes.
    @usableFromInline let bits: UInt

    @inlinable
    init(_ bits: UInt) { self.bits = bits }

    @inlinable static var settledBit: UInt { 8 }
    @inlinable static var mixedBit: UInt { 16 }
    @inlinable var isSettled: Bool { bits & Self.settledBit != 0 }
    @inlinable var isMixed: Bool { bits & Self.mixedBit != 0 }
    @inlinable var shape: Shape { isSettled ? .settled : isMixed ? .mixed : .sparse }

    @inlinable
    var address: UInt { bits & ~(Self.settledBit | Self.mixedBit) }

    @inlinable
    var header: UnsafeMutablePointer<Header> {
        // Sound: directory entries of 4 and above come from `bits` of an allocated node and are never zero.
        UnsafeMutablePointer(bitPattern: address).unsafelyUnwrapped
    }

    // MARK: Layout

    /// The header takes so many bytes.
    @inlinable static var headerSize: UInt { 64 }

    /// The low plane of a flat node lies so far after the header's first byte, and the groups' counts in between.
    @inlinable static var planeOffset: UInt { headerSize &+ 2 &* UInt(MapGeometry.groupsPerNode) }

    @usableFromInline typealias Entry = UInt8

    @inlinable
    var entries: UnsafeMutablePointer<Entry> {
        // Sound: `allocate` leaves room for a sparse node's entries after the header. `bits` has no bit set.
        UnsafeMutablePointer(bitPattern: bits &+ Self.headerSize).unsafelyUnwrapped
    }

    /// The low plane of a settled node.
    @inlinable @inline(__always)
    var settledPlane: UnsafeMutablePointer<UInt64> {
        // Sound: `allocate` leaves room for a flat node's plane after the counts. `bits` has the settled bit set.
        UnsafeMutablePointer(bitPattern: bits &+ (Self.planeOffset &- Self.settledBit)).unsafelyUnwrapped
    }

    /// The planes of a flat node.
    @inlinable
    var planes: PagePlanes {
        // Sound: as `settledPlane`.
        let low = UnsafeMutablePointer<UInt64>(bitPattern: address &+ Self.planeOffset).unsafelyUnwrapped
        return PagePlanes(low: low, high: header.pointee.high)
    }

    /// The planes of a sparse node's fragmented leaf.
    @inlinable @inline(__always)
    func planes(_ entry: Entry) -> PagePlanes {
        header.pointee.pool.unsafelyUnwrapped.slot(Int32(entry) &- 4)
    }

    /// Pages of each group of a flat node whose low bit is set: the private ones of a settled node.
    @inline(__always)
    var groups: UnsafeMutablePointer<UInt16> {
        // Sound: `allocate` leaves room for them after the header.
        UnsafeMutableRawPointer(header).advanced(by: Int(Self.headerSize)).assumingMemoryBound(to: UInt16.self)
    }

    /// The state of a page of a node that is not settled. Kept out of line, so that looks at the others stay short.
    @usableFromInline
    func unsettledState(_ page: UInt64) -> PageState {
        let index = Int(truncatingIfNeeded: page) & (MapGeometry.pagesPerNode &- 1)
        if isMixed { return planes.state(index) }
        let entry = entries[index &>> 9]
        return entry < 4 ? PageState(bits: UInt(entry)) : planes(entry).state(index & 511)
    }

    /// Pages by state.
    @inline(__always)
    var counts: UInt64 {
        get { header.pointee.counts }
        nonmutating set { header.pointee.counts = newValue }
    }

    func pages(in state: PageState) -> Int {
        Int(PackedCounts.pages(counts, in: UInt64(state.rawValue), of: MapGeometry.pagesPerNode))
    }

    /// Whether all pages are in this state.
    @inline(__always)
    func isUniform(_ state: PageState) -> Bool {
        counts == PackedCounts.unit(UInt64(state.rawValue)) &* UInt64(MapGeometry.pagesPerNode)
    }

    // MARK: Life

    private static let sparseBytes = MapGeometry.leavesPerNode * MemoryLayout<Entry>.stride
    private static let planeBytes = MapGeometry.wordsPerNode * 8

    static func allocateSparse(counts: UInt64, slots: Int32) -> Self {
        let raw = UnsafeMutableRawPointer.allocate(byteCount: Int(headerSize) + sparseBytes, alignment: 64)
        raw.bindMemory(to: Header.self, capacity: 1).initialize(
            to: Header(counts: counts, pool: SlotPool(slots: slots)))
        (raw + Int(headerSize)).bindMemory(to: Entry.self, capacity: MapGeometry.leavesPerNode)
        return Self(UInt(bitPattern: raw))
    }

    /// A settled node, or a mixed one.
    static func allocateFlat(counts: UInt64, isMixed: Bool) -> Self {
        precondition(MemoryLayout<Header>.stride <= Int(headerSize))
        let raw = UnsafeMutableRawPointer.allocate(byteCount: Int(planeOffset) + planeBytes, alignment: 64)
        raw.bindMemory(to: Header.self, capacity: 1).initialize(to: Header(counts: counts, pool: nil))
        (raw + Int(headerSize)).bindMemory(to: UInt16.self, capacity: MapGeometry.groupsPerNode)
        (raw + Int(planeOffset)).bindMemory(to: UInt64.self, capacity: MapGeometry.wordsPerNode)
        let node = Self(UInt(bitPattern: raw) | (isMixed ? mixedBit : settledBit))
        if isMixed { node.header.pointee.high = .allocate(capacity: MapGeometry.wordsPerNode) }
        return node
    }

    /// A sparse node all of whose pages are in one state.
    static func make(uniform state: PageState) -> Self {
        let counts = PackedCounts.unit(UInt64(state.rawValue)) &* UInt64(MapGeometry.pagesPerNode)
        let node = allocateSparse(counts: counts, slots: 0)
        node.entries.initialize(repeating: Entry(state.rawValue), count: MapGeometry.leavesPerNode)
        return node
    }

    func retain() { header.pointee.references.wrappingAdd(1, ordering: .relaxed) }

    func release() {
        guard header.pointee.references.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 else {
            return
        }
        header.pointee.pool?.destroy()
        header.pointee.high?.deallocate()
        header.deinitialize(count: 1)
        UnsafeMutableRawPointer(header).deallocate()
    }

    @inline(__always)
    var isUnique: Bool { header.pointee.references.load(ordering: .acquiring) == 1 }

    /// Bytes of heap that the node takes.
    var storageBytes: Int {
        switch shape {
        case .sparse: Int(Self.headerSize) + Self.sparseBytes + header.pointee.pool!.storageBytes
        case .settled: Int(Self.planeOffset) + Self.planeBytes
        case .mixed: Int(Self.planeOffset) + 2 * Self.planeBytes
        }
    }

    /// Whether pages are in transition.
    var isConverting: Bool { counts &>> PackedCounts.laneBits != 0 }
}
