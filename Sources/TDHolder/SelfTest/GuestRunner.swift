internal import Glibc
internal import KVM
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
        var thread: pthread_t?
        var wanted = false
        var outcome: Outcome?
        var ended = false
        var isGone = false
    }

    private let state = Monitor(State())
    private let vcpu: any KVMVirtualCPU

    /// The signal that interrupts KVM_RUN; its handler does nothing.
    private static let kick = SIGUSR2

    init(_ vcpu: any KVMVirtualCPU) {
        self.vcpu = vcpu
        Self.installHandler()
        let state = state
        startThread(named: "vcpu-\(vcpu.id)") {
            let thread = pthread_self()
            state.update { $0.thread = thread }
            while true {
                let goOn = state.wait { $0.ended ? false : $0.wanted ? true : nil }
                guard goOn else { break }
                let outcome: Outcome
                do throws(KVMError) { outcome = .exit(try vcpu.run()) } catch { outcome = .failed(error) }
                state.update {
                    $0.wanted = false
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
            $0.wanted = true
        }
        if let outcome = state.wait(milliseconds: deadline, { $0.outcome }) { return outcome }
        let begin = ContinuousClock.now
        vcpu.setImmediateExit(true)
        defer { vcpu.setImmediateExit(false) }
        // The flag alone does not end a KVM_RUN that is under way, and a signal alone can arrive just before it begins.
        for _ in 0..<200 {
            if let thread = state.update({ $0.thread }) { pthread_kill(thread, Self.kick) }
            if let outcome = state.wait(milliseconds: 10, { $0.outcome }) {
                guard outcome == .exit(.interrupted) else { return outcome }
                return .stopped(milliseconds: (ContinuousClock.now - begin).milliseconds)
            }
        }
        return .stuck
    }

    /// Ends the thread; returns when it is gone or after two seconds.
    func end() {
        state.update { $0.ended = true }
        _ = state.wait(milliseconds: 2000) { $0.isGone ? true : nil }
    }

    private static func installHandler() {
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        action.sa_flags = 0  // no SA_RESTART: KVM_RUN has to return
        sigaction(kick, &action, nil)
    }
}

extension Duration {
    /// With fractions.
    var milliseconds: Double {
        Double(components.seconds) * 1000 + Double(components.attoseconds) / 1_000_000_000_000_000
    }
}
