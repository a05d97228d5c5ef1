internal import Glibc
public import KVM
internal import LinuxSystem
internal import Synchronization

/// Tracks vCPU threads in KVM_RUN, and keeps them out once it is closed.
///
/// A vCPU's thread asks `enter` before every KVM_RUN and calls `leave` after it. Closing the gate lets no thread in any
/// more and drives out who is inside: `immediate_exit` for who is about to enter, a kick (a signal to the thread) for who
/// already runs.
public final class VCPUGate: Sendable {
    private struct State {
        var isClosed = false
        /// By vCPU id: how to interrupt the thread that is inside.
        var inside: [UInt32: @Sendable () -> Void] = [:]
    }

    private let state = Mutex(State())

    public init() {}

    /// - Parameter kick: interrupts the calling thread's KVM_RUN; called from another thread, possibly several times.
    /// - Returns: false when the gate is closed; the thread must not run its vCPU any more.
    public func enter(_ vcpu: any KVMVirtualCPU, kick: @escaping @Sendable () -> Void) -> Bool {
        let id = vcpu.id
        return state.withLock { state in
            guard !state.isClosed else { return false }
            precondition(state.inside.updateValue(kick, forKey: id) == nil, "two threads run vCPU \(id)")
            return true
        }
    }

    public func leave(_ vcpu: any KVMVirtualCPU) {
        let id = vcpu.id
        state.withLock { state in _ = state.inside.removeValue(forKey: id) }
    }

    public var isClosed: Bool { state.withLock { $0.isClosed } }

    /// Ids of the vCPUs that are inside KVM_RUN.
    public var inside: [UInt32] { state.withLock { $0.inside.keys.sorted() } }

    /// Closes the gate and waits until everyone has left or the time is up.
    /// - Returns: the ids of those that are still inside, in order.
    public func close(vcpus: [any KVMVirtualCPU], milliseconds: Int) -> [UInt32] {
        state.withLock { $0.isClosed = true }
        for vcpu in vcpus { vcpu.setImmediateExit(true) }
        let deadline = MonotonicInstant.now.adding(milliseconds: Double(milliseconds))
        while true {
            let kicks = state.withLock { Array($0.inside.values) }
            if kicks.isEmpty { return [] }
            if MonotonicInstant.now >= deadline { return inside }
            // A kick can come between the look at immediate_exit and the guest's entry only if it is repeated.
            for kick in kicks { kick() }
            usleep(500)
        }
    }
}
