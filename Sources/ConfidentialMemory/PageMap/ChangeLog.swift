/// One change of a map: what was set, and its place in the order of all changes.
public struct PageChange: Hashable, Sendable {
    /// 1 for the first change of a map; each next one is one more.
    public var sequence: UInt64
    /// What the range was set to; some of its pages may have been in that state before.
    public var run: PageRun
}

/// What a reader of the change stream gets.
public enum PageChanges: Hashable, Sendable {
    /// Every later change, oldest first; empty when there is none.
    case changes([PageChange])
    /// The changes that the reader lacks are no longer kept, or it names one that has not happened: take a snapshot.
    case tooFarBehind
}

/// The last changes of a map, in a ring that its owner destroys. Memory is touched only as changes come.
struct ChangeLog {
    private let ring: UnsafeMutablePointer<PageRun>
    /// Slots − 1; their number is a power of two and at least one more than the changes that are kept.
    private let mask: UInt64
    private let capacity: UInt64
    private(set) var last: UInt64 = 0

    /// - Parameter capacity: changes to keep.
    init(capacity: Int) {
        precondition(capacity > 0, "a change stream keeps at least one change")
        var slots = 1
        while slots <= capacity { slots *= 2 }
        self.capacity = UInt64(capacity)
        mask = UInt64(slots - 1)
        ring = .allocate(capacity: slots)
    }

    /// Runs are plain values: there is nothing to deinitialize.
    func destroy() { ring.deallocate() }

    /// Keeps a change if `count` is 1, and nothing if it is 0. Without a branch: whether a random page changes cannot be
    /// predicted, and a wrong guess would wait for the page's word to come from memory.
    @inline(__always)
    mutating func append(_ run: PageRun, count: UInt64 = 1) {
        (ring + Int(truncatingIfNeeded: last & mask)).initialize(to: run)
        last &+= count
    }

    func changes(since sequence: UInt64) -> PageChanges {
        // The slot after the last change may hold one that came to nothing; it is never among the kept.
        guard sequence <= last, last - sequence <= capacity else { return .tooFarBehind }
        var changes: [PageChange] = []
        changes.reserveCapacity(Int(last - sequence))
        for number in sequence..<last {
            changes.append(PageChange(sequence: number + 1, run: ring[Int(number & mask)]))
        }
        return .changes(changes)
    }
}
