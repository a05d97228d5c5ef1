internal import Synchronization
internal import TDXModule

/// How often each SEAMCALL leaf was made for one TD, bumped without a lock.
final class SeamcallCounts: Sendable {
    private let counters: [Counter]

    private final class Counter: Sendable {
        let value = Atomic<UInt64>(0)
    }

    /// Leaves are below 128.
    init() { counters = (0..<128).map { _ in Counter() } }

    func add(_ leaf: SeamcallLeaf) { counters[Int(leaf.rawValue)].value.wrappingAdd(1, ordering: .relaxed) }

    /// By the module's name for the leaf; leaves that were never called are left out.
    var byName: [String: UInt64] {
        var result: [String: UInt64] = [:]
        for leaf in SeamcallLeaf.allCases {
            let count = counters[Int(leaf.rawValue)].value.load(ordering: .relaxed)
            if count > 0 { result[leaf.name] = count }
        }
        return result
    }
}
