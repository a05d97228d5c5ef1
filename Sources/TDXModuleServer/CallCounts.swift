internal import Synchronization
internal import TDXStatusCodes

/// How often each leaf was called and how it ended, and what the calls took here. For any number of threads.
final class CallCounts: Sendable {
    private struct State: Sendable {
        var leaves: [UInt16: LeafCount] = [:]
        var unexpected: [String: UInt64] = [:]
    }
    private let state = Mutex(State())

    /// - Parameter nanoseconds: from the bell to the answer, the guest's time of VP.ENTER included.
    func count(_ number: UInt16, _ status: TDXStatus, nanoseconds: UInt64) {
        state.withLock { state in
            state.leaves[number, default: LeafCount()].add(status, nanoseconds: nanoseconds)
        }
    }

    /// Ascending by leaf.
    var all: [(number: UInt16, count: LeafCount)] {
        state.withLock { state in state.leaves.sorted { $0.key < $1.key }.map { (number: $0.key, count: $0.value) } }
    }
}

/// The calls of one leaf.
struct LeafCount: Hashable, Sendable {
    var calls: UInt64 = 0
    /// Calls by the class of their status, bits 63:32, of those that are no success.
    var refusals: [UInt64: UInt64] = [:]
    /// Of all calls together, measured in the server.
    var nanoseconds: UInt64 = 0

    mutating func add(_ status: TDXStatus, nanoseconds: UInt64) {
        calls += 1
        self.nanoseconds += nanoseconds
        if !status.isSuccess { refusals[status.rawValue >> 32, default: 0] += 1 }
    }
}
