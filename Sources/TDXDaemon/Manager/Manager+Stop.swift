internal import ControlInterface
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

extension Manager {
    /// How long a holder may take to end after its last answer.
    private static let exitPatience = Duration.seconds(10)

    /// Ends a TD and proves it. Blocks.
    ///
    /// - Returns: The certificate, which is on disk by then.
    /// - Parameter policy: nil for the configured one.
    /// - Throws: `noSuchDomain`, `wrongState` while the TD is being built or ended, or `kernelRefused` for terminate-first
    ///   where the kernel does not announce it; nothing is changed then.
    func stop(
        _ name: DomainName, policy: StopPolicy? = nil, progress: (Progress) -> Void
    ) throws(ControlError) -> TeardownCertificate {
        let policy = policy ?? configuredPolicy
        // The holder would refuse, too, but a Stop that fails is taken for a holder that is lost.
        if policy == .terminateFirst, isRunnable(name) { _ = try planStop(name, policy: policy) }
        let decision = try decideStop(name)
        switch decision {
        case .ended(let certificate): return certificate
        case .stop(let domain):
            guard let holder = core.withLock({ $0.holders[domain.record.id] }) else {
                preconditionFailure("a running TD has a holder")
            }
            return end(domain, holder, policy: policy, aftermath: .forget, progress: progress)
        case .proveAgain(let domain):
            let known = core.withLock { core in
                core.endings[domain.record.id].flatMap { ending in
                    core.holders[domain.record.id].map { (ending, $0) }
                }
            }
            guard let (ending, holder) = known else { preconditionFailure("a draining TD has an ending") }
            return proveAgain(ending, holder, aftermath: .forget)
        }
    }

    /// What Stop would do now: the holder's steps and those of tdxd behind them.
    func planStop(
        _ name: DomainName, policy: StopPolicy? = nil
    ) throws(ControlError) -> ManagerInterface.PlanStop.Reply {
        let policy = policy ?? configuredPolicy
        let (domain, holder) = try findRunnable(name, "plan its stop")
        // Every backing file is counted through.
        let timeout = max(configuration.deadlines.holderReply, configuration.deadlines.build)
        let plan = try holder.link.planStop(policy, timeout: timeout)
        let duplicates = holder.backing?.files.count ?? 0
        return ManagerInterface.PlanStop.Reply(
            name: name.text, backend: domain.record.backend ?? .memfd, policy: policy,
            memoryBytes: domain.record.memoryBytes, plan,
            further: [
                PlannedStep(name: "exit", detail: "holder process \(domain.record.holderPID ?? 0)"),
                PlannedStep(name: "close-duplicates", detail: counted(duplicates, "duplicate") + " of tdxd"),
                PlannedStep(name: "prove", detail: "then key id \(domain.record.keyID) is free in the ledger"),
            ])
    }

    private var configuredPolicy: StopPolicy {
        switch configuration.teardown.policy {
        case .auto: .auto
        case .terminateFirst: .terminateFirst
        case .dynamicRemoval: .dynamicRemoval
        }
    }

    private func isRunnable(_ name: DomainName) -> Bool {
        core.withLock { (try? $0.registry.find(name: name))?.state == .runnable }
    }

    private func decideStop(_ name: DomainName) throws(ControlError) -> Registry.StopDecision {
        try core.withLock { (core: inout sending Core) throws(ControlError) -> Registry.StopDecision in
            let decision = try core.registry.beginStop(name: name)
            if case .stop(let domain) = decision { core.ledger.mark(.draining, holder: domain.record.id) }
            return decision
        }
    }

    /// Asks the holder to end its TD, and takes over from a holder that fails.
    func end(
        _ domain: Registry.Domain, _ holder: LiveHolder, policy: StopPolicy = .auto, aftermath: Registry.Aftermath,
        progress: (Progress) -> Void
    ) -> TeardownCertificate {
        var ending = Ending(record: domain.record, holderDied: false)
        ending.policy = policy.rawValue
        ending.record.ending = true
        // A next tdxd then knows that the end has begun. Without the note it would adopt a TD that is being stopped,
        // which its holder tells it as well.
        try? write(ending.record, in: holder.directory)
        log.info("stopping a TD", metadata: ["td": "\(domain.record.name)", "id": "\(domain.record.id)"])
        do throws(ControlError) {
            let answer = try holder.link.stop(policy, silence: configuration.deadlines.stop, progress: progress)
            ending.phases = answer.phases ?? []
            ending.holderProofs = answer.proofs ?? []
            ending.path = answer.path ?? ending.path
            ending.releasedBytes = answer.releasedBytes ?? 0
            ending.failure = answer.failure
        } catch {
            log.error("a holder did not stop its TD", metadata: ["td": "\(domain.record.name)", "reason": "\(error)"])
            ending.holderDied = true
            ending.phases.append(TeardownPhase(name: "holder-lost", milliseconds: 0, detail: "\(error)"))
            holder.process?.kill()
        }
        awaitExit(&ending, holder)
        return conclude(ending, holder, aftermath: aftermath, progress: progress)
    }

    /// Waits for the holder's process to end; kills one that does not.
    private func awaitExit(_ ending: inout Ending, _ holder: LiveHolder) {
        guard let process = holder.process else { return }
        let start = MonotonicInstant.now
        var exit = process.waitForEnd(ending.holderDied ? Self.killPatience : Self.exitPatience)
        if exit == nil, !ending.holderDied {
            ending.holderDied = true
            process.kill()
            exit = process.waitForEnd(Self.killPatience)
        }
        ending.phases.append(
            TeardownPhase(
                name: "exit", milliseconds: MonotonicInstant.now.milliseconds(since: start),
                detail: exit ?? "the holder's process does not end"))
    }

    /// Gives back what a holder that died by itself has left.
    func reap(_ domain: Registry.Domain, _ holder: LiveHolder, reason: String) {
        var ending = Ending(record: domain.record, holderDied: true)
        ending.record.ending = true
        try? write(ending.record, in: holder.directory)
        ending.phases.append(TeardownPhase(name: "death", milliseconds: 0, detail: reason))
        conclude(ending, holder, aftermath: .remember)
    }

    static func sleep(milliseconds: UInt32) { usleep(milliseconds * 1000) }

    // MARK: All of them

    /// Ends every TD, several at a time. Blocks until all are ended or `deadline` has passed.
    func drain(deadline: Duration) {
        let end = MonotonicInstant.now + deadline
        while MonotonicInstant.now < end {
            let running = core.withLock { core in
                core.registry.domains.values.filter { $0.state == .runnable }.compactMap { domain in
                    core.holders[domain.record.id].map { (domain.record.name, $0) }
                }
            }
            for (name, _) in running {
                workers.submit { [self] in
                    guard let name = try? DomainName(validating: name) else { return }
                    // All must go: a kernel that cannot terminate is no reason to stay.
                    let policy = configuredPolicy
                    _ = try? stop(name, policy: policy == .terminateFirst ? .auto : policy) { _ in }
                }
            }
            let left = core.withLock { core in
                core.registry.domains.values.count { [.building, .runnable, .stopping].contains($0.state) }
            }
            if left == 0 { return }
            Self.sleep(milliseconds: 20)
        }
    }
}
