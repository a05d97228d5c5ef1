/// The fragmented leaves of a sparse node, each in a slot of 128 bytes for both planes, in one piece of memory that grows by
/// doubling. Its owner destroys it.
@usableFromInline
struct SlotPool {
    @usableFromInline private(set) var words: UnsafeMutablePointer<UInt64>
    private(set) var capacity: Int32
    /// Slots that are handed out.
    private(set) var used: Int32 = 0
    /// Slots from here on were never handed out.
    private(set) var fresh: Int32 = 0
    /// First of the list of slots given back, chained through their first words; −1 ends it.
    private var free: Int32 = -1

    static let firstCapacity: Int32 = 4
    @inlinable static var wordsPerSlot: Int { 2 &* MapGeometry.wordsPerLeaf }

    /// - Parameter slots: for so many there is room without growing.
    init(slots: Int32 = 0) {
        capacity = Self.firstCapacity
        while capacity < slots { capacity *= 2 }
        words = .allocate(capacity: Int(capacity) * Self.wordsPerSlot)
    }

    func destroy() { words.deallocate() }

    /// Bytes of heap.
    var storageBytes: Int { Int(capacity) * Self.wordsPerSlot * 8 }

    /// True when giving slots back has left so little in use that a pool of half the size is worth moving into.
    var isThin: Bool { capacity > Self.firstCapacity && used <= capacity / 4 }

    @inlinable @inline(__always)
    func slot(_ index: Int32) -> PagePlanes {
        let low = words + Int(index) &* Self.wordsPerSlot
        return PagePlanes(low: low, high: low + MapGeometry.wordsPerLeaf)
    }

    /// Hands out a slot whose words are not initialized.
    mutating func take() -> Int32 {
        used += 1
        if free >= 0 {
            let index = free
            free = Int32(truncatingIfNeeded: Int64(bitPattern: slot(index).low.pointee))
            return index
        }
        if fresh == capacity { grow() }
        fresh += 1
        return fresh - 1
    }

    mutating func giveBack(_ index: Int32) {
        slot(index).low.pointee = UInt64(bitPattern: Int64(free))
        free = index
        used -= 1
    }

    private mutating func grow() {
        let larger = UnsafeMutablePointer<UInt64>.allocate(capacity: 2 * Int(capacity) * Self.wordsPerSlot)
        larger.initialize(from: words, count: Int(fresh) * Self.wordsPerSlot)
        words.deallocate()
        words = larger
        capacity *= 2
    }
}
