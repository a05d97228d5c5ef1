internal import KVM
internal import MemoryUnits
internal import SystemPackage

/// The host's guest key ids and the misc-cgroup charge for them. Source: reference/kvm.md §4.6.
final class KeyPool: Sendable {
    private struct State {
        var free: [KeyID]
        var charged = 0
    }

    private let lock = Lock()
    // Sound: only touched inside `lock`.
    nonisolated(unsafe) private var state: State
    /// `misc.max`; nil for none.
    private let limit: Int?

    /// - Parameter limit: the cgroup's limit for "tdx"; 0 stands for a host whose capacity is 0.
    init(_ keyIDs: [KeyID], limit: Int?) {
        state = State(free: keyIDs.sorted().reversed())
        self.limit = limit
    }

    /// The lowest free key id, charged. ENOSPC when none is free, EBUSY over the cgroup's limit, EINVAL at capacity 0.
    func allocate() throws(Errno) -> KeyID {
        try lock.withLock { () throws(Errno) in
            guard let keyID = state.free.last else { throw .noSpace }
            if let limit {
                if limit == 0 { throw .invalidArgument }
                if state.charged >= limit {
                    // A bug of Linux 7.2: the error path takes back a charge that was never made, so the next call passes.
                    state.charged -= 1
                    throw .resourceBusy
                }
            }
            state.free.removeLast()
            state.charged += 1
            return keyID
        }
    }

    func release(_ keyID: KeyID) {
        lock.withLock {
            state.free.append(keyID)
            state.free.sort(by: >)
            state.charged -= 1
        }
    }

    var freeCount: Int { lock.withLock { state.free.count } }
    var chargedCount: Int { lock.withLock { state.charged } }
}
