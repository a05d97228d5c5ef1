internal import KVM
internal import LinuxSystem
internal import MemoryUnits

/// Runs one vCPU on a thread of its own, so that every KVM_RUN can be given a deadline: a guest that spins is stopped by
/// `immediate_exit` and a signal to that thread.
final class GuestRunner: Sendable {
    enum Outcome: Equatable {
        case exit(VCPUExit)
        /// The deadline passed and the vCPU was taken out of KVM_RUN; how long that took, in milliseconds.
        case stopped(milliseconds: Double)
        /// The vCPU could not be taken out.
        case stuck
        case failed(KVMError)
    }

    private struct State {
        var thread: Int32?
        var isWanted = false
        var outcome: Outcome?
        var isEnded = false
        var isGone = false
    }

    private let state = Monitor(State())
    private let vcpu: any KVMVirtualCPU

    /// - Throws: EAGAIN at the limit of threads.
    init(_ vcpu: any KVMVirtualCPU) throws(LinuxError) {
        self.vcpu = vcpu
        try Signals.makeInterrupting(.kick)
        let state = state
        _ = try SystemThread(name: "vcpu-\(vcpu.id)") {
            state.update { $0.thread = CurrentProcess.threadID }
            while state.wait({ $0.isEnded ? false : $0.isWanted ? true : nil }) {
                let outcome: Outcome
                do throws(KVMError) { outcome = .exit(try vcpu.run()) } catch { outcome = .failed(error) }
                state.update {
                    $0.isWanted = false
                    $0.outcome = outcome
                }
            }
            state.update { $0.isGone = true }
        }
    }

    /// One KVM_RUN, of at most `deadline` milliseconds. After `.stuck` the vCPU must not be run again.
    func run(deadline: Int) -> Outcome {
        state.update {
            $0.outcome = nil
            $0.isWanted = true
        }
        if let outcome = state.wait(milliseconds: deadline, { $0.outcome }) { return outcome }
        let begin = MonotonicInstant.now
        vcpu.setImmediateExit(true)
        defer { vcpu.setImmediateExit(false) }
        // The flag alone does not end a KVM_RUN that is under way, and a signal alone can arrive just before it begins.
        for _ in 0..<200 {
            if let thread = state.update({ $0.thread }) {
                // The thread lives until `end`, so the signal reaches it.
                try? CurrentProcess.signal(thread: thread, .kick)
            }
            if let outcome = state.wait(milliseconds: 10, { $0.outcome }) {
                guard outcome == .exit(.interrupted) else { return outcome }
                return .stopped(milliseconds: MonotonicInstant.now.milliseconds(since: begin))
            }
        }
        return .stuck
    }

    /// Ends the thread; returns when it is gone, or after two seconds.
    func end() {
        state.update { $0.isEnded = true }
        _ = state.wait(milliseconds: 2000) { $0.isGone ? true : nil }
    }
}
