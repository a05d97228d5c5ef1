internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXStatusCodes

/// A TD's end: halted, and its memory given back, at once or later.
extension Holder {
    /// - Throws: `.wrongState` while a TD is being built and after the first Stop.
    ///   `.kernelRefused` for terminate-first on a kernel that does not announce it.
    func beginStop(_ order: TeardownPolicy.Order = .auto) throws(ControlError) {
        let built = state.withLock { $0.built }
        if order == .terminateFirst, let built { try Self.checkTerminates(built.domain) }
        try changing(named: name) { (state: inout State) throws(OperationRefused) in try state.lifecycle.stop() }
    }

    /// What Stop would do now. Blocks for about 20 ms a resident GiB.
    func planStop(_ order: TeardownPolicy.Order) throws(ControlError) -> HolderInterface.PlanStop.Reply {
        let domain = try runnable("PlanStop").domain
        if order == .terminateFirst { try Self.checkTerminates(domain) }
        do throws(TrustDomainError) {
            var reply = HolderInterface.PlanStop.Reply(try domain.teardownPlan(policy: ordered(order)))
            reply.lastWill = lastWill
            return reply
        } catch {
            throw ControlError(error, name: name)
        }
    }

    private static func checkTerminates(_ domain: ConfidentialMemory.TrustDomain) throws(ControlError) {
        guard domain.terminateSupport != .present else { return }
        throw .kernelRefused(
            operation: "KVM_TDX_TERMINATE_VM", errno: Errno.notSupported.rawValue, errnoName: Errno.notSupported.name,
            tdxStatus: nil,
            detail: "the kernel does not announce it and the policy is terminate-first; nothing was changed")
    }

    private func ordered(_ order: TeardownPolicy.Order) -> TeardownPolicy {
        var policy = policy
        policy.order = order
        return policy
    }

    /// Ends what `beginStop` was given. Never fails: what went wrong is in the reply.
    /// - Parameter holds: the memory stays until `reclaim`.
    /// - Returns: the reply, and whether anything is held.
    func stop(
        _ order: TeardownPolicy.Order = .auto, holds: Bool = false, progress: @escaping @Sendable (Progress) -> Void
    ) -> (reply: HolderInterface.Stop.Reply, isHeld: Bool) {
        let built = state.withLock { $0.built }
        guard let built else {
            state.withLock { $0.lifecycle.stopped(failure: nil) }
            log.info("stopped without a TD")
            return (.init(phases: [], proofs: [], path: .none, releasedBytes: 0, failures: []), false)
        }
        let policy = ordered(order)
        let report: TeardownReport
        do throws(TrustDomainError) {
            report = try built.domain.halt(policy: policy, progress: heard(progress))
        } catch {
            let reply = HolderInterface.Stop.Reply(
                phases: [], proofs: HolderProofs.notBegun(error), path: .none, releasedBytes: 0,
                failures: [EndFailure(.notBegun, "\(error)")])
            return (ended(reply), false)
        }
        // The TD was terminated, or is not to be; and the will's own descriptor would keep the VM.
        will?.disarm()
        guard holds else { return release(built, report, policy, progress) }
        log.info("TD runs no more; its memory is held", metadata: ["path": "\(report.path.rawValue)"])
        let reply = HolderInterface.Stop.Reply(
            phases: report.phases.map { ControlInterface.TeardownPhase($0) }, proofs: [], path: report.path,
            releasedBytes: 0, failures: report.failures)
        state.withLock { state in
            state.halted = report
            state.lifecycle.halted()
        }
        return (reply, true)
    }

    /// - Throws: `.wrongState` unless memory is held.
    func beginReclaim() throws(ControlError) {
        try changing(named: name) { (state: inout State) throws(OperationRefused) in try state.lifecycle.reclaim() }
    }

    /// Gives back what a `stop` has held. Never fails: what went wrong is in the reply. Of a TD that a page could not be taken
    /// from, it returns the same once more.
    /// - Parameter chunk: nil for this holder's own.
    /// - Returns: the reply, and whether anything is held still.
    func reclaim(
        chunk: ByteCount?, progress: @escaping @Sendable (Progress) -> Void
    ) -> (reply: HolderInterface.Stop.Reply, isHeld: Bool) {
        if let known = state.withLock({ $0.withheld }) {
            state.withLock { $0.lifecycle.halted() }
            return (known, true)
        }
        guard
            let (built, report) = state.withLock({ state in state.built.flatMap { b in state.halted.map { (b, $0) } } })
        else { return (ended(Self.failed("no memory of a TD is held")), false) }
        var policy = policy
        if let chunk { policy.chunk = chunk }
        return release(built, report, policy, progress)
    }

    /// Of what is being given back, and of what will be.
    func setPace(_ bytesPerSecond: UInt64?) { pace.set(bytesPerSecond) }

    private func release(
        _ built: Built, _ first: TeardownReport, _ policy: TeardownPolicy,
        _ progress: @escaping @Sendable (Progress) -> Void
    ) -> (reply: HolderInterface.Stop.Reply, isHeld: Bool) {
        let files = built.domain.memory.shardRanges.count
        do throws(TrustDomainError) {
            var report = try built.domain.release(
                after: first, policy: policy, pace: pace, emulatedFailure: { built.system.removalFailure },
                progress: heard(progress))
            // Closing answers nothing; an emulated kernel can be asked.
            if !report.isWithheld, let bug = built.system.removalFailure {
                report.failures.note(
                    EndFailure(.closeFailed, status: bug.status?.hexadecimal, "close: \(bug.reason)"))
            }
            let inspection = built.system.inspection
            if let inspection { report.failures.note(HolderProofs.ownership(inspection, after: report.failures)) }
            let reply = HolderInterface.Stop.Reply(
                phases: report.phases.map { ControlInterface.TeardownPhase($0) },
                proofs: HolderProofs.make(report, shards: files, inspection: inspection),
                path: report.path, releasedBytes: report.released.rawValue, failures: report.failures,
                withheld: report.isWithheld ? true : nil)
            tell(report)
            record.write(reply)
            guard report.isWithheld else { return (ended(reply), false) }
            state.withLock { state in
                state.withheld = reply
                state.lifecycle.halted()
            }
            return (reply, true)
        } catch {
            return (ended(Self.failed("the memory could not be released: \(error)", after: first)), false)
        }
    }

    /// What is reported of an end that could not be completed.
    /// - Parameter first: what the first half reported; nil where there is none.
    private static func failed(_ reason: String, after first: TeardownReport? = nil) -> HolderInterface.Stop.Reply {
        var failures = first?.failures ?? []
        failures.note(EndFailure(.notBegun, reason))
        return HolderInterface.Stop.Reply(
            phases: first?.phases.map { ControlInterface.TeardownPhase($0) } ?? [], proofs: [],
            path: first?.path ?? .unknown, releasedBytes: 0, failures: failures)
    }

    /// Loud, because tdxd may not be there to hear it.
    private func tell(_ report: TeardownReport) {
        guard let failure = report.failures.quarantining else { return }
        var metadata: Logger.Metadata = [
            "td": "\(name)", "reason": "\(report.failures.words ?? failure.text)", "kind": "\(failure.kind)",
            "emulated": "\(host.backend.isEmulated)",
            "kept_bytes": "\(report.isWithheld ? report.remaining.map { "\($0.rawValue)" } ?? "unknown" : "0")",
        ]
        if let status = report.failures.status {
            metadata["tdx_status"] = "\(status)"
            metadata["tdx_status_name"] = "\(TDXStatus(hexadecimal: status)?.name ?? "unknown")"
        }
        log.critical("a page could not be taken from a TD", metadata: metadata)
    }

    /// Its TD's memory is kept from everybody, and this process is what keeps it.
    var isWithheld: Bool { state.withLock { $0.withheld != nil } }

    private func ended(_ reply: HolderInterface.Stop.Reply) -> HolderInterface.Stop.Reply {
        state.withLock { $0.lifecycle.stopped(failure: reply.failure) }
        log.info(
            "TD has ended", metadata: ["path": "\(reply.path ?? .none)", "failure": "\(reply.failure ?? "none")"])
        return reply
    }

    /// Passes on how far the end has come, and keeps it for Describe.
    private func heard(_ progress: @escaping @Sendable (Progress) -> Void) -> @Sendable (TeardownProgress) -> Void {
        { [self] step in
            let step = Progress(
                phase: step.phase.rawValue, doneBytes: step.done.rawValue, totalBytes: step.total.rawValue,
                detail: step.detail)
            let isNew = state.withLock { state in
                defer { state.ending = step }
                return state.ending?.phase != step.phase
            }
            progress(step)
            if isNew, host.backend.isEmulated, emulation.pausesAt?.rawValue == step.phase {
                log.warning("stopping itself, as asked for", metadata: ["phase": "\(step.phase)"])
                CurrentProcess.stop()
            }
        }
    }

    /// Runs `body` when everything of the TD that the journal is to have has been logged.
    func whenReported(_ body: @escaping @Sendable () -> Void) { reporter.run(body) }
}
