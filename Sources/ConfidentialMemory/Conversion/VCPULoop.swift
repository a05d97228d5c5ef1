public import KVM
internal import LinuxSystem

/// Runs one vCPU on the calling thread until the TD stops, the guest ends, or an exit has no handler.
public enum VCPULoop {
    public enum End: Hashable, Sendable {
        /// The gate is closed: the TD is being torn down.
        case stopped
        /// The guest cannot go on; why.
        case fatal(String)
        /// KVM_RUN failed.
        case refused(KVMError)
    }

    /// - Parameter handle: what to do with exits that are not about memory; false ends the loop as fatal.
    /// - Note: `Signals.makeInterrupting(.kick)` must have been called in this process, or a kick would end it.
    public static func run(
        _ vcpu: any KVMVirtualCPU, of domain: TrustDomain, handle: (VCPUExit) -> Bool
    ) -> End {
        var exits = GuestExits(domain)
        let thread = CurrentProcess.threadID
        while true {
            let entered = domain.gate.enter(vcpu) {
                // A thread that has ended meanwhile needs no kick.
                try? CurrentProcess.signal(thread: thread, .kick)
            }
            guard entered else { return .stopped }
            let exit: VCPUExit
            do {
                defer { domain.gate.leave(vcpu) }
                exit = try vcpu.run()
            } catch {
                return .refused(error)
            }
            if exit == .interrupted { continue }
            switch exits.handle(exit, of: vcpu) {
            case .reenter: continue
            case .fatal(let why): return .fatal(why)
            case .notMine:
                guard handle(exit) else { return .fatal("exit \(exit) is not handled") }
            }
        }
    }
}
