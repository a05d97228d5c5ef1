internal import ControlInterface
internal import DomainEnd
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

extension Manager {
    /// How long tdxd's own start waits for one holder's figures: many that are stuck must not keep everybody waiting. A TD
    /// whose holder is silent is adopted by its record.
    private static let adoptionTimeout = Duration.seconds(2)

    /// Finds the holders that a former tdxd left, and what it left of dead ones. Before any client is served. Blocks for a
    /// few seconds at most for each holder that does not answer.
    ///
    /// - Parameter stored: duplicates that the former tdxd had left with the service manager; key: the TD's id.
    /// - Throws: when the directory of holders cannot be read: whatever is in it would be lost sight of.
    func adoptAll(stored: [String: Backing]) throws(LinuxError) {
        let ids = try TextFile.list(places.holders).sorted()
        var stored = stored
        defer {
            // Of TDs that nothing is known of any more: they would keep their memory for ever.
            for (id, backing) in stored {
                log.warning("letting go of stored duplicates of an unknown TD", metadata: ["id": "\(id)"])
                descriptors.drop(id)
                backing.close()
            }
        }
        var unknown: [(id: String, reason: String?, isDamaged: Bool)] = []
        for id in ids {
            let directory = places.holder(id)
            switch DomainRecord.find(in: directory, id: id) {
            case .record(let record): adopt(record, directory, stored.removeValue(forKey: id))
            // Last, since they take key ids that no other TD has.
            case .missing: unknown.append((id, nil, false))
            case .damaged(let reason): unknown.append((id, reason, true))
            case .unread(let error): unknown.append((id, "\(error)", false))
            }
        }
        for (id, reason, isDamaged) in unknown {
            adoptUnknown(id, because: reason, isDamaged: isDamaged, stored.removeValue(forKey: id))
        }
        groups?.sweep(keeping: core.withLock { core in Set(core.registry.domains.values.map(\.record.name)) })
    }

    private func adopt(_ record: DomainRecord, _ directory: String, _ stored: Backing?) {
        let link = HolderLink(
            record, record.isAttached ? .given(GivenConnections()) : .path(Places.socket(inHolder: directory)))
        let process = record.isAttached ? attachedProcess(record) : findProcess(record, directory, link)
        let holder = LiveHolder(record, directory: directory, process: process, link: link)
        holder.backing = stored
        let conflict = core.withLock { core in core.ledger.adopt(KeyID(record.keyID), for: record.id) }
        if let conflict {
            log.critical(
                "two TDs have one key id",
                metadata: ["td": "\(record.name)", "id": "\(record.id)", "other": "\(conflict)"])
        }
        if let reason = record.unreadable {
            keepUnreadable(record, holder, reason)
            if process != nil, let answer = try? link.describe(timeout: Self.unknownTimeout), answer.id == record.id {
                adoptBacking(of: holder, answer)
            }
            return
        }
        var answer: HolderInterface.Description?
        if process != nil, !record.isAttached {
            do throws(ControlError) {
                answer = try holder.figures(timeout: min(configuration.deadlines.holderReply, Self.adoptionTimeout))
            } catch {
                log.warning("a holder does not answer", metadata: ["td": "\(record.name)", "reason": "\(error)"])
            }
        }
        goOn(with: record, holder, answer)
    }

    /// Has the machine go on from what the former tdxd has written, and what was found.
    private func goOn(with record: DomainRecord, _ holder: LiveHolder, _ answer: HolderInterface.Description?) {
        let known = try? store.read(name: record.name, id: record.id)
        let found = Found(
            Self.found(record, holder, answer),
            certificate: known.map { $0.pending != nil ? .none : $0.complete ? .complete : .incomplete } ?? .none,
            isBuilt: record.backend != nil, isAttached: record.isAttached)
        let (end, actions) = EndMachine.adopting(record.endNote, found)
        var domain = Registry.Domain(record: record, end: end)
        domain.certificate = known
        if let answer, end.stage == .runnable {
            domain.lastKnown = TrustDomain(answer, record: record)
            domain.record.backend = answer.backend
            core.withLock { $0.found(answer.backend) }
        }
        domain.reason = Self.reason(domain, holder)
        do throws(ControlError) { try register(domain, holder) } catch {
            log.critical("a TD cannot be adopted", metadata: ["td": "\(record.name)", "reason": "\(error)"])
            return
        }
        if let answer, [.runnable, .halted].contains(answer.state) { adoptBacking(of: holder, answer) }
        if answer != nil, end.stage == .runnable { adoptPages(of: holder) }
        holder.link.reserveConnections()
        let now = core.withLock { $0.registry[record.id] } ?? domain
        ends.resume(now, actions, inline: end.stage == .forgotten) { work in
            if end.stage == .reading { Self.noteEnd(of: holder, &work.report, end) }
        }
        watch(holder)
        tellAdopted(domain, holder, answers: answer != nil)
        // What was half made ends with its process.
        guard end.stage == .clearing else { return }
        workers.submit { [self] in abandon(record, holder, reason: "half built when tdxd went") }
    }

    private static func found(
        _ record: DomainRecord, _ holder: LiveHolder, _ answer: HolderInterface.Description?
    ) -> Found.Holder {
        guard holder.process != nil else {
            return .gone(inOrder: record.isAttached ? record.stop != nil : !holder.hasSocket)
        }
        switch answer?.state {
        case nil where record.backend == nil && !record.ending: return .building
        case .empty, .building: return .building
        case .failed where record.backend == nil: return .building
        default: return .alive(says: answer.map { HolderProgress($0.state) })
        }
    }

    private static func reason(_ domain: Registry.Domain, _ holder: LiveHolder) -> String? {
        switch domain.end.stage {
        case .building: domain.record.isAttached ? "its process makes it" : nil
        case .reading: domain.end.holderDied ? "its holder ended while no tdxd was running" : nil
        default: domain.end.isAnswered && domain.end.isMoving ? "its memory is being given back" : nil
        }
    }

    /// How a holder ended that no tdxd has seen.
    private static func noteEnd(of holder: LiveHolder, _ report: inout EndReport, _ end: EndMachine) {
        // The former tdxd may have seen it.
        guard !report.phases.contains(where: { [.exit, .death].contains($0.name) }) else { return }
        let memory =
            holder.backing == nil
            ? "the kernel took back by itself what it held"
            : "its memory stayed with duplicates that the service manager kept"
        report.phases.append(
            TeardownPhase(
                name: end.holderDied ? .death : .exit, milliseconds: 0,
                detail: "the holder ended \(end.holderDied ? "" : "in order ")while no tdxd was running: \(memory)"))
    }

    private func tellAdopted(_ domain: Registry.Domain, _ holder: LiveHolder, answers: Bool) {
        let metadata: Logger.Metadata = [
            "td": "\(domain.record.name)", "id": "\(domain.record.id)",
            "holder_pid": "\(holder.process?.pid ?? 0)", "answers": "\(answers)",
            "stage": "\(domain.end.stage.rawValue)",
        ]
        switch domain.end.stage {
        case .runnable where domain.record.isAttached:
            log.info("an attached TD waits for its process to come back", metadata: metadata)
        case .runnable, .building: log.info("adopted a TD", metadata: metadata)
        case .forgotten: log.info("a TD's end was proven before, or it was never built", metadata: metadata)
        default: log.warning("going on with the end of a TD that a former tdxd left", metadata: metadata)
        }
    }

    /// The holder's process: who serves its socket, or else who was started with its directory.
    func findProcess(_ record: DomainRecord, _ directory: String, _ link: HolderLink) -> HolderProcess? {
        if let pid = link.servingProcess(), let handle = try? ProcessHandle(pid: pid) {
            // The connection is still there, so the number was still that process's when it was opened.
            return HolderProcess(handle)
        }
        // It may not serve yet, or no longer.
        let started = procReader.perform { Self.processes(of: record, startedWith: directory) }
        for pid in started {
            guard let handle = try? ProcessHandle(pid: pid) else { continue }
            let process = HolderProcess(handle)
            return process.exitIfEnded() == nil ? process : nil
        }
        return nil
    }

    /// The numbers of processes that have a TD's directory on their command line.
    private static func processes(of record: DomainRecord, startedWith directory: String) -> [Int32] {
        let candidates = record.holderPID.map { [$0] } ?? ((try? TextFile.list("/proc")) ?? []).compactMap { Int32($0) }
        return candidates.filter { pid in
            guard let line = try? TextFile.read("/proc/\(pid)/cmdline", limit: 64 << 10) else { return false }
            return line.split(separator: "\0").contains(Substring(directory))
        }
    }

    private func hasAllDuplicates(_ holder: LiveHolder, _ record: DomainRecord) -> Bool {
        guard let backing = holder.backing, !record.backing.isEmpty else { return false }
        return backing.identities
            == Set(record.backing.map { FileIdentity(device: $0.device, inode: $0.inode) })
    }

    /// Fetches duplicates of a TD that tdxd has none or not all of, and notes them. The TD is in the registry.
    func adoptBacking(of holder: LiveHolder, _ description: HolderInterface.Description) {
        guard let record = core.withLock({ $0.registry[holder.id] })?.record, !hasAllDuplicates(holder, record) else {
            return
        }
        do throws(ControlError) {
            let backing = try holder.link.backing(timeout: configuration.deadlines.holderReply)
            try checkFiles(backing, of: record)
            hold(backing, of: holder)
            // It may have ended meanwhile.
            guard let domain = core.withLock({ $0.registry[holder.id] }) else { return }
            let record = completed(domain.record, description, backing)
            core.withLock { $0.registry.update(id: holder.id, record: record) }
            ends.writeRecord(holder.id)
        } catch {
            log.error(
                "tdxd has no duplicates of a TD's memory", metadata: ["id": "\(holder.id)", "reason": "\(error)"])
        }
    }

    /// Lets tdxd read a TD's page counts without asking. A holder of an older version cannot.
    func adoptPages(of holder: LiveHolder) {
        guard holder.pages == nil else { return }
        do throws(ControlError) {
            holder.pages = try holder.link.figures(timeout: configuration.deadlines.holderReply)
        } catch {
            log.debug("a holder publishes no page counts", metadata: error.fields(["id": "\(holder.id)"]))
        }
    }

    func register(_ domain: Registry.Domain, _ holder: LiveHolder) throws(ControlError) {
        try core.withLock { (core: inout sending Core) throws(ControlError) in
            try core.registry.adopt(domain)
            core.holders[domain.record.id] = holder
        }
    }
}
