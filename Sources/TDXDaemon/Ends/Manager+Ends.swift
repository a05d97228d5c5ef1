internal import ControlInterface
internal import DomainEnd
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

/// What clients want of ends.
extension Manager {
    var ends: Ends { Ends(manager: self) }

    /// Begins to end a TD. Blocks for a short question to the holder at most.
    ///
    /// - Parameter watcher: gets the certificate when the end is proven, or earlier as ordered; it is on disk by then.
    ///   Gets the refusal of a holder whose TD goes on as it was.
    /// - Throws: `invalidField`, `noSuchDomain`, `wrongState` while the TD is being built or ended, or `kernelRefused` for
    ///   terminate-first where the kernel does not announce it; nothing is changed then.
    func stop(_ order: StopOrder, as principal: Principal = .admin, _ watcher: StopWatcher) throws(ControlError) {
        let resolved = try order.resolved(configuration.teardown)
        // The holder would refuse, too.
        if resolved.policy == .terminateFirst, isRunnable(order.name) {
            _ = try planStop(order.name, policy: resolved.policy)
        }
        let before = try find(order.name, principal, "stop")
        let id = before.record.id
        let terms = StopTerms(holdsMemory: resolved.isHeld, answersWhenHalted: resolved.wait == .stopped)
        var known: TeardownCertificate?
        let actions = ends.handle(.stopAsked(terms), id) { work, end, actions in
            known = work.certificate
            guard !actions.isEmpty, !actions.contains(.refuse), actions != [.answerKnown] else { return }
            switch end.stage {
            case .runnable, .quarantined: work.report = EndReport(record: work.report.record, order: resolved)
            case .held:
                work.report.bytesPerSecond = resolved.pace
                work.report.chunkBytes = resolved.chunk
            default: break
            }
            work.watchers.append(watcher)
        }
        if actions.isEmpty { throw .noSuchDomain(name: order.name.rawValue) }
        if actions.contains(.refuse) {
            throw .wrongState(name: order.name.rawValue, state: Self.words(before), operation: "stop")
        }
        // A TD that is only taken note of is forgotten, with its name, before its client has the answer.
        if actions == [.answerKnown] {
            guard let certificate = known ?? before.certificate else { throw .noSuchCertificate(certificate: id) }
            return watcher.answer(certificate)
        }
        if before.end.isUnreadable { core.withLock { $0.registry.setReadable(id: id) } }
        if let deadline = resolved.deadline { ends.arm(deadline, id, watcher) }
    }

    private func find(
        _ name: TrustDomainName, _ principal: Principal, _ operation: String
    ) throws(ControlError) -> Registry.Domain {
        try core.withLock { (core: inout sending Core) throws(ControlError) -> Registry.Domain in
            let domain = try core.registry.find(name: name)
            try principal.check(domain.record, operation)
            return domain
        }
    }

    private static func words(_ domain: Registry.Domain) -> String {
        if domain.end.stage == .clearing { return "failed, being cleared up" }
        return domain.end.isMoving && domain.state == .failed ? "being reaped" : domain.state.rawValue
    }

    /// Gives the memory of a stopped TD back, or changes the pace at which it comes.
    ///
    /// - Parameter watcher: gets the certificate when the end is proven, or as much of it as ever will be.
    /// - Throws: `noSuchDomain`, or `wrongState` unless the TD's memory is held or on its way; nothing is changed then.
    func reclaim(
        _ order: ReclaimOrder, as principal: Principal = .admin, _ watcher: StopWatcher
    ) throws(ControlError) {
        let before = try find(order.name, principal, "reclaim")
        let id = before.record.id
        guard before.state == .draining else {
            throw .wrongState(name: order.name.rawValue, state: before.state.rawValue, operation: "reclaim")
        }
        let actions = ends.handle(.reclaimAsked, id) { work, end, actions in
            guard !actions.isEmpty, !actions.contains(.refuse) else { return }
            work.report.bytesPerSecond = order.pace
            if end.stage == .held { work.report.chunkBytes = order.chunk }
            work.watchers.append(watcher)
        }
        if actions.isEmpty { throw .noSuchDomain(name: order.name.rawValue) }
        if actions.contains(.refuse) {
            throw .wrongState(name: order.name.rawValue, state: "draining, its memory is back", operation: "reclaim")
        }
        if actions.contains(.join) {
            ends.setPace(id, order.pace)
        } else {
            core.withLock { $0.registry.setReason(id: id, "its memory is being given back") }
            log.info("giving held memory back", metadata: ["td": "\(before.record.name)", "id": "\(id)"])
        }
    }

    /// What Stop would do now: the holder's steps and those of tdxd after them.
    func planStop(
        _ name: TrustDomainName, policy: StopPolicy? = nil
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
                PlannedStep(name: "hold", detail: "until “tdxctl reclaim \(name.rawValue)”"), at: release)
        }
        return ManagerInterface.PlanStop.Reply(
            name: name.rawValue, backend: domain.record.backend ?? .memfd, policy: policy,
            memoryBytes: domain.record.memoryBytes, steps,
            further: [
                PlannedStep(name: "exit", detail: "holder process \(domain.record.holderPID ?? 0)"),
                PlannedStep(name: "close-duplicates", detail: counted(duplicates, "duplicate") + " of tdxd"),
                PlannedStep(name: "prove", detail: "then key id \(domain.record.keyID) is free in the ledger"),
            ], pageReset: PageReset.words(domain.record.backend ?? .memfd, hasErratum: PageReset.hostHasErratum),
            erratum: PageReset.hostHasErratum)
    }

    private func isRunnable(_ name: TrustDomainName) -> Bool {
        core.withLock { (try? $0.registry.find(name: name))?.state == .runnable }
    }
}
