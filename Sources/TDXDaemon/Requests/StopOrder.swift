internal import ControlInterface
internal import MemoryUnits
internal import ServiceSupport

/// A Stop as a client wants it; nil is left to the configuration.
typealias StopOrder = ManagerInterface.Stop.Parameters

extension ManagerInterface.Stop.Parameters {
    /// With the configuration's answers to what the client has left open.
    struct Resolved: Hashable, Sendable {
        var policy: StopPolicy
        var pace: UInt64?
        var chunk: UInt64?
        var deadline: Duration?
        var wait: StopWait
        /// The memory waits until a client asks for it.
        var isHeld: Bool { policy == .deferred && pace == nil }
    }

    /// - Throws: `invalidField` for a wait that would never end.
    func resolved(_ teardown: TDXDConfiguration.Teardown) throws(ControlError) -> Resolved {
        let policy = policy ?? StopPolicy(teardown.policy)
        let standard: StopWait = teardown.wait == .proven ? .proven : .stopped
        let result = Resolved(
            policy: policy, pace: bytesPerSecond?.bytesPerSecond ?? teardown.rate?.rawValue,
            chunk: chunkBytes?.bytes.rawValue, deadline: deadlineMilliseconds?.duration,
            wait: wait ?? (policy == .deferred ? .stopped : standard))
        guard !result.isHeld || result.wait == .stopped else {
            throw .invalidField(
                field: "wait", value: "proven",
                limit: "stopped with policy deferred and no bytes_per_second: its memory comes back only by Reclaim")
        }
        return result
    }
}

/// A Reclaim as a client wants it.
typealias ReclaimOrder = ManagerInterface.Reclaim.Parameters

extension ManagerInterface.Reclaim.Parameters {
    /// Nil for as fast as it goes.
    var pace: UInt64? { bytesPerSecond?.bytesPerSecond }
    var chunk: UInt64? { chunkBytes?.bytes.rawValue }
}

extension ManagerInterface.Drain.Parameters {
    /// - Throws: `invalidField` for a policy that may refuse or leaves memory for later: it empties no host.
    func checkedPolicy() throws(ControlError) -> StopPolicy? {
        guard let policy, policy != .auto, policy != .dynamicRemoval else { return policy }
        throw .invalidField(field: "policy", value: policy.rawValue, limit: "auto or dynamic-removal, for a drain")
    }
}

extension StopPolicy {
    init(_ policy: TDXDConfiguration.TeardownPolicy) {
        switch policy {
        case .auto: self = .auto
        case .terminateFirst: self = .terminateFirst
        case .dynamicRemoval: self = .dynamicRemoval
        case .deferred: self = .deferred
        }
    }
}
