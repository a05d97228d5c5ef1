internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import ServiceSupport

/// A Stop as a client wants it, checked; nil is left to the configuration.
struct StopOrder: Hashable, Sendable {
    var name: DomainName
    var policy: StopPolicy?
    var pace: UInt64?
    var chunk: UInt64?
    var deadline: Duration?
    var wait: StopWait?

    init(name: DomainName) { self.name = name }

    /// - Throws: `invalidField` for the first field that is wrong.
    init(_ parameters: ManagerInterface.Stop.Parameters) throws(ControlError) {
        name = try DomainName(validating: parameters.name)
        if let policy = parameters.policy { self.policy = try StopPolicy(validating: policy, standard: .auto) }
        if let pace = parameters.bytesPerSecond { self.pace = try ReleaseLimits.checkedPace(pace) }
        if let chunk = parameters.chunkBytes { self.chunk = try ReleaseLimits.checkedChunk(chunk) }
        if let deadline = parameters.deadlineMilliseconds {
            self.deadline = .milliseconds(Int64(try ReleaseLimits.checkedDeadline(milliseconds: deadline)))
        }
        if let wait = parameters.wait { self.wait = try StopWait(validating: wait, standard: .proven) }
    }

    /// With the configuration's answers to what the client has left open.
    struct Resolved: Hashable, Sendable {
        var policy: StopPolicy
        var pace: UInt64?
        var chunk: UInt64?
        var deadline: Duration?
        var wait: StopWait
        /// The memory waits until somebody asks for it.
        var isHeld: Bool { policy == .deferred && pace == nil }
    }

    /// - Throws: `invalidField` for a wait that would never end.
    func resolved(_ teardown: TDXDConfiguration.Teardown) throws(ControlError) -> Resolved {
        let policy = policy ?? StopPolicy(teardown.policy)
        let standard: StopWait = teardown.wait == .proven ? .proven : .stopped
        let result = Resolved(
            policy: policy, pace: pace ?? teardown.rate?.rawValue, chunk: chunk, deadline: deadline,
            wait: wait ?? (policy == .deferred ? .stopped : standard))
        guard !result.isHeld || result.wait == .stopped else {
            throw .invalidField(
                field: "wait", value: "proven",
                limit: "stopped with policy deferred and no bytes_per_second: its memory comes back only by Reclaim")
        }
        return result
    }
}

/// A Reclaim as a client wants it, checked.
struct ReclaimOrder: Hashable, Sendable {
    var name: DomainName
    /// Nil for as fast as it goes.
    var pace: UInt64?
    var chunk: UInt64?

    /// - Throws: `invalidField` for the first field that is wrong.
    init(_ parameters: ManagerInterface.Reclaim.Parameters) throws(ControlError) {
        name = try DomainName(validating: parameters.name)
        if let pace = parameters.bytesPerSecond { self.pace = try ReleaseLimits.checkedPace(pace) }
        if let chunk = parameters.chunkBytes { self.chunk = try ReleaseLimits.checkedChunk(chunk) }
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
