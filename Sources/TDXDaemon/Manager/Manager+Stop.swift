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

    /// Ends a TD and proves it. Blocks until nothing is left to do, which may be long after `watcher` has its answer.
    ///
    /// - Parameter watcher: gets the certificate, which is on disk by then: when the end is proven, or earlier as the
    ///   order says.
    /// - Throws: `invalidField`, `noSuchDomain`, `wrongState` while the TD is being built or ended, or `kernelRefused` for
    ///   terminate-first where the kernel does not announce it; nothing is changed then.
    func stop(_ order: StopOrder, as principal: Principal = .admin, _ watcher: StopWatcher) throws(ControlError) {
        let resolved = try order.resolved(configuration.teardown)
        // The holder would refuse, too, but a Stop that fails is taken for a holder that is lost.
        if resolved.policy == .terminateFirst, isRunnable(order.name) {
            _ = try planStop(order.name, policy: resolved.policy)
        }
        switch try decideStop(order.name, principal) {
        case .ended(let certificate), .known(let certificate): watcher.answer(certificate)
        case .stop(let domain):
            let holder = try self.holder(of: domain)
            if let deadline = resolved.deadline { arm(deadline, domain.record.id, watcher) }
            if domain.record.isAttached { return try endAttached(domain, holder, resolved, watcher) }
            end(domain, holder, resolved, aftermath: .forget, watcher)
        case .reclaim(let domain): reclaim(domain, pace: resolved.pace, chunk: resolved.chunk, watcher)
        case .proveAgain(let domain):
            guard let ending = core.withLock({ $0.endings[domain.record.id] }) else { throw Self.isGone(domain) }
            watcher.answer(proveAgain(ending, try holder(of: domain), aftermath: .forget))
        }
    }

    private func holder(of domain: Registry.Domain) throws(ControlError) -> LiveHolder {
        guard let holder = core.withLock({ $0.holders[domain.record.id] }) else { throw Self.isGone(domain) }
        return holder
    }

    /// Another thread cleared the TD up after this one had found it.
    private static func isGone(_ domain: Registry.Domain) -> ControlError { .noSuchDomain(name: domain.record.name) }

    /// What Stop would do now: the holder's steps and those of tdxd behind them.
    func planStop(
        _ name: DomainName, policy: StopPolicy? = nil
    ) throws(ControlError) -> ManagerInterface.PlanStop.Reply {
        let policy = policy ?? StopPolicy(configuration.teardown.policy)
        let (domain, holder) = try findRunnable(name, "plan its stop")
        // Every backing file is counted through.
        let timeout = max(configuration.deadlines.holderReply, configuration.deadlines.build)
        let plan = try holder.link.planStop(policy, timeout: timeout)
        let duplicates = holder.backing?.files.count ?? 0
        var steps = plan
        if policy == .deferred, configuration.teardown.rate == nil,
            let release = steps.steps.firstIndex(where: { $0.name == "release" })
        {
            steps.steps.insert(
                PlannedStep(name: "hold", detail: "until “tdxctl reclaim \(name.text)”"), at: release)
        }
        return ManagerInterface.PlanStop.Reply(
            name: name.text, backend: domain.record.backend ?? .memfd, policy: policy,
            memoryBytes: domain.record.memoryBytes, steps,
            further: [
                PlannedStep(name: "exit", detail: "holder process \(domain.record.holderPID ?? 0)"),
                PlannedStep(name: "close-duplicates", detail: counted(duplicates, "duplicate") + " of tdxd"),
                PlannedStep(name: "prove", detail: "then key id \(domain.record.keyID) is free in the ledger"),
            ], pageReset: PageReset.words(domain.record.backend ?? .memfd, hasErratum: PageReset.hostHasErratum),
            erratum: PageReset.hostHasErratum)
    }

    private func isRunnable(_ name: DomainName) -> Bool {
        core.withLock { (try? $0.registry.find(name: name))?.state == .runnable }
    }

    private func decideStop(_ name: DomainName, _ principal: Principal) throws(ControlError) -> Registry.StopDecision {
        try core.withLock { (core: inout sending Core) throws(ControlError) -> Registry.StopDecision in
            try principal.check(try core.registry.find(name: name).record, "stop")
            let decision = try core.registry.beginStop(name: name)
            if case .stop(let domain) = decision { core.ledger.mark(.draining, holder: domain.record.id) }
            return decision
        }
    }

    /// Asks the holder to end its TD, and takes over from a holder that fails.
    func end(
        _ domain: Registry.Domain, _ holder: LiveHolder, _ order: StopOrder.Resolved, aftermath: Registry.Aftermath,
        _ watcher: StopWatcher
    ) {
        let record = DomainRecord.StopRecord(
            policy: order.policy.rawValue, beganAt: WallTime.now.rfc3339,
            beganNanoseconds: MonotonicInstant.now.nanoseconds, isHeld: order.isHeld, bytesPerSecond: order.pace,
            chunkBytes: order.chunk)
        var ending = Ending(record: domain.record, stop: record)
        ending.record.ending = true
        ending.record.stop = record
        ending.proofDeadline = order.deadline.map { ending.start + $0 }
        note(ending)
        // A next tdxd then knows that the end has begun. Without the note it would adopt a TD that is being stopped,
        // which its holder tells it as well.
        try? write(ending.record, in: holder.directory)
        log.info(
            "stopping a TD",
            metadata: ["td": "\(domain.record.name)", "id": "\(domain.record.id)", "policy": "\(record.policy)"])
        do throws(ControlError) {
            ending.take(
                try holder.link.halt(
                    order.policy, silence: configuration.deadlines.stop, progress: { watcher.report($0) }))
        } catch {
            lose(&ending, holder, error)
            return leave(ending, holder, aftermath, watcher)
        }
        keep(&ending, holder)
        if order.wait == .stopped { answerHalted(ending, holder, isHeld: order.isHeld, watcher) }
        guard !order.isHeld else { return }
        giveBack(
            ending, holder, pace: order.pace, chunk: order.chunk,
            aftermath: aftermath, watcher)
    }

    /// The second half of an end: the holder gives its memory back and goes.
    func giveBack(
        _ ending: Ending, _ holder: LiveHolder, pace: UInt64?, chunk: UInt64?, aftermath: Registry.Aftermath,
        _ watcher: StopWatcher
    ) {
        var ending = ending
        do throws(ControlError) {
            ending.take(
                try holder.link.reclaim(
                    .init(bytesPerSecond: pace, chunkBytes: chunk),
                    silence: configuration.deadlines.stop, progress: { watcher.report($0) }))
            keep(&ending, holder)
        } catch {
            lose(&ending, holder, error)
        }
        leave(ending, holder, aftermath, watcher)
    }

    private func lose(_ ending: inout Ending, _ holder: LiveHolder, _ error: ControlError) {
        log.error("a holder did not stop its TD", metadata: error.fields(["td": "\(ending.record.name)"]))
        ending.holderDied = true
        // It may have come to the end of it before.
        ending.takeRecord(in: holder.directory)
        ending.phases.append(TeardownPhase(name: .holderLost, milliseconds: 0, detail: "\(error)"))
        holder.process?.kill()
    }

    private func leave(
        _ ending: Ending, _ holder: LiveHolder, _ aftermath: Registry.Aftermath, _ watcher: StopWatcher
    ) {
        var ending = ending
        takeOver(&ending, holder)
        note(ending)
        // Who had an answer before the end does not hear how it went.
        let outcome = watcher.isAnswered && aftermath == .forget ? .forgetComplete : aftermath
        watcher.answer(conclude(ending, holder, aftermath: outcome, watcher))
    }

    /// What others are told of an end that is under way.
    func note(_ ending: Ending) { core.withLock { $0.endings[ending.record.id] = ending } }

    /// The same for the next tdxd, which the holder tells nothing twice.
    func keep(_ ending: inout Ending, _ holder: LiveHolder) {
        ending.record.soFar = ending.soFar
        note(ending)
        do {
            try write(ending.record, in: holder.directory)
        } catch {
            log.warning(
                "what is known of an end cannot be kept for the next tdxd",
                metadata: ["td": "\(ending.record.name)", "reason": "\(error)"])
        }
    }

    /// Sees the holder go. One that keeps memory that nobody may have goes when tdxd has it, too; otherwise it stays.
    private func takeOver(_ ending: inout Ending, _ holder: LiveHolder) {
        guard ending.isWithheldByHolder else { return awaitExit(&ending, holder) }
        if holder.backing == nil,
            let description = try? holder.link.describe(timeout: configuration.deadlines.holderReply)
        {
            adoptBacking(of: holder, description)
        }
        guard holder.backing != nil else { return }
        holder.process?.terminate()
        awaitExit(&ending, holder)
    }

    /// Waits for the holder's process to end; kills one that does not.
    private func awaitExit(_ ending: inout Ending, _ holder: LiveHolder) {
        guard let process = holder.process else { return }
        let start = MonotonicInstant.now
        var exit = process.waitForEnd(ending.holderDied ? Self.killPatience : Self.exitPatience)
        if exit == nil, !ending.holderDied, !process.isAttached {
            ending.holderDied = true
            process.kill()
            exit = process.waitForEnd(Self.killPatience)
        }
        ending.phases.append(
            TeardownPhase(
                name: .exit, milliseconds: MonotonicInstant.now.milliseconds(since: start),
                detail: exit
                    ?? (process.isAttached
                        ? "process \(process.pid), which had attached the TD, goes on"
                        : "the holder's process does not end")))
    }

    /// Gives back what a holder that died by itself has left.
    func reap(_ domain: Registry.Domain, _ holder: LiveHolder, reason: String) {
        // It may have been stopped already, and its memory held.
        var ending =
            core.withLock { $0.endings[domain.record.id] } ?? Ending(record: domain.record, holderDied: true)
        ending.holderDied = true
        ending.record.ending = true
        try? write(ending.record, in: holder.directory)
        ending.phases.append(TeardownPhase(name: .death, milliseconds: 0, detail: reason))
        conclude(ending, holder, aftermath: .remember)
    }

    static func sleep(milliseconds: UInt32) { usleep(milliseconds * 1000) }
}
