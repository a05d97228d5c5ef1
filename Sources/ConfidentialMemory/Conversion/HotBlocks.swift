public import MemoryUnits

/// A 2 MiB block that is converted often. The count may be too high by as much as that of a block that it displaced.
public struct HotBlock: Hashable, Sendable {
    public static var size: ByteCount { .mebibytes(2) }

    public var address: GuestPhysicalAddress
    public var conversions: UInt64
}

/// The blocks touched most often, among any number, in bounded space: when the table is full, the coolest block makes
/// room and its count is inherited (the space-saving algorithm), so that no block that is truly hot is missed.
struct HotBlocks: Sendable {
    private let capacity: Int
    private var counts: [UInt64: UInt64] = [:]

    init(capacity: Int) {
        self.capacity = capacity
        counts.reserveCapacity(capacity)
    }

    mutating func touch(_ block: UInt64) {
        if let count = counts[block] {
            counts[block] = count + 1
        } else if counts.count < capacity {
            counts[block] = 1
        } else if let coolest = counts.min(by: { ($0.value, $0.key) < ($1.value, $1.key) }) {
            counts[coolest.key] = nil
            counts[block] = coolest.value + 1
        }
    }

    /// Hottest first.
    var blocks: [HotBlock] {
        counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            .map { HotBlock(address: GuestPhysicalAddress($0.key << 21), conversions: $0.value) }
    }
}
