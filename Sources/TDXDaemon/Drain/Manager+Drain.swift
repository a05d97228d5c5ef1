internal import ControlInterface
internal import DomainEnd
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

/// Emptying the host, and whether it is empty.
extension Manager {
    // MARK: Purposes

    /// Lets no new TD in, and ends the others where the purpose asks for it. Blocks until nothing is left to wait for.
    ///
    /// - Parameter deadline: from now; nil for as long as it takes. What is not done then goes on.
    /// - Throws: `tryAgain` when it cannot be noted durably; nothing is changed then.
    func drain(
        _ purpose: DrainPurpose, policy: StopPolicy?, deadline: Duration?, progress: (Progress) -> Void
    ) throws(ControlError) -> DrainStatus {
        let policy = Self.ending(policy ?? StopPolicy(configuration.teardown.policy))
        let record = DrainRecord(
            purpose: purpose, since: WallTime.now.rfc3339, policy: policy, bootID: DrainRecord.currentBootID)
        do {
            try setAsideUnreadableDrain()
            try record.write(in: places.stateDirectory)
        } catch {
            throw .tryAgain(reason: "the drain cannot be noted: \(error)")
        }
        core.withLock { core in
            core.drain = record
            core.drainFlaw = nil
        }
        log.notice("emptying the host", metadata: ["purpose": "\(purpose.words)", "policy": "\(policy.rawValue)"])
        empty(record, deadline: deadline.map { MonotonicInstant.now + $0 }, progress: progress)
        let status = drainStatus()
        log.notice(
            status.ready ? "the host is empty" : "the host is not empty",
            metadata: ["purpose": "\(purpose.words)", "blockers": "\(status.blockers.joined(separator: "; "))"])
        return status
    }

    /// A policy that may refuse, or leaves memory for later, empties no host.
    private static func ending(_ policy: StopPolicy) -> StopPolicy { policy == .dynamicRemoval ? policy : .auto }

    /// Goes on with the drain that a former tdxd noted. One that cannot be read lets no new TD in and ends none.
    func resumeDrain() {
        switch DrainRecord.read(in: places.stateDirectory) {
        case .none: break
        case .unreadable(let flaw):
            core.withLock { $0.drainFlaw = flaw }
            log.critical(
                "drain.json cannot be read: no new TD is let in, and none is ended", metadata: ["reason": "\(flaw)"])
        case .record(let record): resume(record)
        }
    }

    private func resume(_ record: DrainRecord) {
        guard !record.isFulfilled(in: DrainRecord.currentBootID) else {
            log.notice(
                "the host was emptied and has been started again: new TDs may come",
                metadata: ["purpose": "\(record.purpose.words)", "since": "\(record.since)"])
            try? DrainRecord.remove(in: places.stateDirectory)
            return
        }
        core.withLock { $0.drain = record }
        log.notice(
            "the host is being emptied, as the former tdxd was asked",
            metadata: ["purpose": "\(record.purpose.words)", "since": "\(record.since)"])
        workers.submit { [self] in empty(record, deadline: nil) { _ in } }
    }

    /// Reads once more what could not be read, such as at the limit of open files. Called now and then.
    func readDrainAgain() {
        guard core.withLock({ $0.drainFlaw != nil && $0.drain == nil }) else { return }
        let reading = DrainRecord.read(in: places.stateDirectory)
        if case .unreadable = reading { return }
        core.withLock { $0.drainFlaw = nil }
        log.notice("drain.json can be read again")
        if case .record(let record) = reading { resume(record) }
    }

    private func setAsideUnreadableDrain() throws(LinuxError) {
        guard core.withLock({ $0.drainFlaw != nil }) else { return }
        // It may have become readable since: then it is replaced or removed as any other.
        guard case .unreadable = DrainRecord.read(in: places.stateDirectory) else { return }
        guard let path = try DrainRecord.setAside(in: places.stateDirectory) else { return }
        log.notice("set a record of a drain aside that cannot be read", metadata: ["path": "\(path)"])
    }

    /// - Throws: `tryAgain` when it cannot be noted durably; nothing is changed then.
    func undrain() throws(ControlError) -> DrainStatus {
        do throws(LinuxError) {
            try setAsideUnreadableDrain()
            try DrainRecord.remove(in: places.stateDirectory)
        } catch {
            throw .tryAgain(reason: "the end of the drain cannot be noted: \(error)")
        }
        core.withLock { core in
            core.drain = nil
            core.drainFlaw = nil
        }
        log.notice("new TDs may come again")
        return drainStatus()
    }

    func drainStatus() -> DrainStatus {
        let (record, flaw, backend) = core.withLock { ($0.drain, $0.drainFlaw, Self.expectedBackend($0)) }
        let inventory = inventory()
        var blockers = record.map { inventory.blockers($0.purpose) } ?? []
        // Before a reboot or a repair the service manager ends other programs' VMs; a kexec leaves their memory as it is.
        if record?.purpose == .kexec { blockers += otherVMs()?.blockers ?? [] }
        if let flaw {
            blockers.append(
                "\(flaw): no new TD is let in, and none is ended; “tdxctl drain --undo” or a new drain decides")
        }
        let ended = record.map { record in
            store.all(onFlaw: { _ in }).filter { $0.startedAt >= record.since }.map { CertificateSummary($0) }
        }
        return DrainStatus(
            backend: backend, purpose: record?.purpose ?? (flaw == nil ? nil : .maintenance), since: record?.since,
            building: inventory.building,
            running: inventory.running, ending: inventory.ending, privateBytes: inventory.privateBytes,
            convertingBytes: inventory.convertingBytes, keysTaken: inventory.keysTaken,
            blockers: blockers, ended: ended ?? [])
    }

    /// What of the host belongs to TDs now, of the attribute maps themselves.
    func inventory() -> Inventory {
        let (domains, answered) = pagesNow()
        return core.withLock { core in
            let known = core.registry.domains
            let uses = core.ledger.holdings.values.map(\.use)
            return Inventory(
                domains, answered: answered,
                unproven: known.values.filter { $0.state == .failed && $0.certificate?.complete != true }
                    .map(\.record.name).sorted(),
                quarantined: known.values.filter { $0.end.stage == .quarantined }.map(\.record.name).sorted(),
                keysTaken: uses.count, keysDraining: uses.count { $0 == .draining })
        }
    }

    // MARK: Ending all

    /// Ends every TD, several at a time. Blocks until nothing moves any more or `deadline` has passed.
    func drain(deadline: Duration) {
        let policy = Self.ending(StopPolicy(configuration.teardown.policy))
        let record = DrainRecord(purpose: .shutdown, since: "", policy: policy)
        empty(record, deadline: .now + deadline) { _ in }
    }

    private func empty(_ record: DrainRecord, deadline: MonotonicInstant?, progress: (Progress) -> Void) {
        var total: UInt64 = 0
        var asked: Set<String> = []
        var lastLeft = -1
        var nextReport = MonotonicInstant.now
        var nextUnpacing = nextReport
        while deadline.map({ MonotonicInstant.now < $0 }) ?? true {
            let (ending, left, isWanted) = core.withLock { core in
                let domains = core.registry.domains.values
                let moving = domains.filter { domain in
                    let isMoving = domain.state == .building || domain.end.isMoving
                    guard record.purpose.endsDomains else { return domain.state == .building }
                    return isMoving || [.runnable, .held, .clearing].contains(domain.end.stage)
                }
                return (
                    moving.filter { [.runnable, .held].contains($0.end.stage) }.map(\.record), moving.map(\.record),
                    core.drain == record || core.isLeaving
                )
            }
            // The last of them may have ended with its key id and record still to be cleared up.
            guard isWanted, !left.isEmpty || ends.isBusy else { return }
            let bytes = left.reduce(0) { $0 &+ $1.memoryBytes }
            total = max(total, bytes)
            if left.count != lastLeft || nextReport <= .now {
                lastLeft = left.count
                nextReport = .now + .seconds(1)
                progress(
                    Progress(
                        phase: "drain", doneBytes: total - bytes, totalBytes: total,
                        detail: "\(counted(left.count, "TD")) left"))
            }
            if record.purpose.endsDomains {
                for domain in ending where asked.insert(domain.id).inserted {
                    workers.submit { [self] in end(domain, for: record) }
                }
                if nextUnpacing <= .now {
                    unpaceAll()
                    nextUnpacing = .now.adding(milliseconds: 500)
                }
            }
            Self.sleep(milliseconds: 20)
        }
    }

    private func logUnended(_ domain: DomainRecord, _ error: ControlError) {
        log.error(
            "a TD could not be ended for the drain",
            metadata: error.fields(["td": "\(domain.name)", "id": "\(domain.id)"]))
    }

    private func end(_ domain: DomainRecord, for drain: DrainRecord) {
        do throws(ControlError) {
            var order = StopOrder(name: TrustDomainName(unchecked: domain.name))
            order.policy = drain.policy
            order.wait = .proven
            try stop(order, StopWatcher(refusal: { [self] in logUnended(domain, $0) }))
        } catch {
            // Another's stop may have come first; whatever else it is, the TD is left and listed among the blockers.
            logUnended(domain, error)
        }
    }

    /// Lets memory that comes back at a pace come as fast as it goes: again and again, since a holder takes it only while
    /// it is giving back.
    private func unpaceAll() {
        let paced = endBooks.works.withLock { works in
            works.filter { $0.value.report.bytesPerSecond != nil || $0.value.report.record.stop?.bytesPerSecond != nil }
                .keys.sorted()
        }
        for id in paced { ends.setPace(id, nil) }
    }

    // MARK: kexec

    /// Whether another kernel may be started now. Blocks for about 50 ms, and two seconds for holders at most.
    func checkKexec() throws(ControlError) -> ManagerInterface.CheckKexec.Reply {
        let known = core.withLock { $0.backend }
        let backend = if let known { known } else { try check().backend }
        let verdict = KexecVerdict(
            inventory: inventory(), host: KexecReadings.read(), backend: backend, drain: core.withLock { $0.drain },
            others: otherVMs(), writeRate: WriteRate.measure(), memory: (try? MemoryInformation.ofHost())?.total)
        return ManagerInterface.CheckKexec.Reply(backend: backend, checks: verdict.checks, answers: verdict.answers)
    }
}
