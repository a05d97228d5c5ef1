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

/// The last changes of a map, in a ring that grows up to its capacity.
struct ChangeLog {
    private var ring: [PageRun] = []
    private let capacity: Int
    private(set) var last: UInt64 = 0

    init(capacity: Int) {
        precondition(capacity > 0, "a change stream keeps at least one change")
        self.capacity = capacity
    }

    mutating func append(_ run: PageRun) {
        if ring.count < capacity {
            ring.append(run)
        } else {
            ring[Int(last % UInt64(capacity))] = run
        }
        last += 1
    }

    func changes(since sequence: UInt64) -> PageChanges {
        guard sequence <= last, last - sequence <= UInt64(ring.count) else { return .tooFarBehind }
        var changes: [PageChange] = []
        changes.reserveCapacity(Int(last - sequence))
        for number in sequence..<last {
            changes.append(PageChange(sequence: number + 1, run: ring[Int(number % UInt64(capacity))]))
        }
        return .changes(changes)
    }
}
