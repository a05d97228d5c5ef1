internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

extension Manager {
    /// How long tdxd's own start waits for one holder's figures: many that are stuck must not keep everybody waiting. A TD
    /// whose holder is silent is adopted as its record says.
    private static let adoptionPatience = Duration.seconds(2)

    /// Finds the holders that a former tdxd left, and what it left of dead ones. Before anybody is served. Blocks for a
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
        guard process != nil else { return bury(record, holder) }
        if let reason = record.unreadable {
            keepUnreadable(record, holder, reason)
            if let answer = try? link.describe(timeout: Self.unknownPatience), answer.id == record.id {
                adoptBacking(of: holder, answer)
            }
            return
        }
        if record.isAttached { return awaitReturn(record, holder) }
        let answer: HolderInterface.Description?
        do throws(ControlError) {
            answer = try holder.figures(timeout: min(configuration.deadlines.holderReply, Self.adoptionPatience))
        } catch {
            log.warning("a holder does not answer", metadata: ["td": "\(record.name)", "reason": "\(error)"])
            answer = nil
        }
        switch answer?.state {
        case .runnable where !record.ending: adoptRunning(record, holder, answer)
        case nil where !record.ending && record.backend != nil: adoptRunning(record, holder, nil)
        default: resolve(record, holder, answer)
        }
    }

    /// The holder's process: who serves its socket, or else who was started with its directory.
    func findProcess(_ record: DomainRecord, _ directory: String, _ link: HolderLink) -> HolderProcess? {
        if let pid = link.servingProcess(), let handle = try? ProcessHandle(pid: pid) {
            // The connection is still there, so the number was still that process's when it was opened.
            return HolderProcess(handle)
        }
        // It may not serve yet, or no longer.
        let started = lookout.perform { Self.processes(of: record, startedWith: directory) }
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

    private func adoptRunning(_ record: DomainRecord, _ holder: LiveHolder, _ answer: HolderInterface.Description?) {
        var domain = Registry.Domain(record: record, state: .runnable)
        if let answer {
            domain.lastKnown = TrustDomain(answer, record: record)
            domain.record.backend = answer.backend
            core.withLock { $0.found(answer.backend) }
        }
        do throws(ControlError) {
            try register(domain, holder)
        } catch {
            log.critical("a TD cannot be adopted", metadata: ["td": "\(record.name)", "reason": "\(error)"])
            return
        }
        core.withLock { core in core.ledger.mark(.inUse, holder: record.id) }
        if let answer { adoptBacking(of: holder, answer) }
        if answer != nil { adoptPages(of: holder) }
        watch(holder)
        log.info(
            "adopted a TD",
            metadata: [
                "td": "\(record.name)", "id": "\(record.id)", "holder_pid": "\(holder.process?.pid ?? 0)",
                "answers": "\(answer != nil)",
            ])
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
            try write(record, in: holder.directory)
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

    /// A TD that was being built or ended when the former tdxd went, or whose build failed: it is ended.
    private func resolve(_ record: DomainRecord, _ holder: LiveHolder, _ answer: HolderInterface.Description?) {
        let wasBuilt = record.backend != nil || answer?.state == .runnable
        log.warning(
            "ending a TD that the former tdxd left half built or half ended",
            metadata: ["td": "\(record.name)", "id": "\(record.id)", "state": "\(answer?.state.rawValue ?? "silent")"])
        var domain = Registry.Domain(record: record, state: wasBuilt ? .stopping : .building)
        domain.isEnding = true
        if wasBuilt, answer?.state == .stopping || answer?.state == .halted, record.stop != nil {
            // Somebody may want it to be quicker.
            domain.state = .draining
            domain.reason = "its memory is being given back"
        }
        do throws(ControlError) { try register(domain, holder) } catch { return }
        workers.submit { [self] in
            guard wasBuilt else {
                holder.process?.kill()
                return abandon(record, holder, reason: "half built when tdxd went")
            }
            if let answer, takeUp(record, holder, answer) { return }
            finish(record, holder)
        }
    }

    /// Goes on with an end whose holder waits to be told.
    /// - Returns: false when the holder does not wait.
    private func takeUp(
        _ record: DomainRecord, _ holder: LiveHolder, _ answer: HolderInterface.Description
    ) -> Bool {
        switch answer.state {
        case .runnable:
            adoptBacking(of: holder, answer)
            guard let domain = core.withLock({ $0.registry[record.id] }) else { return true }
            let order = StopOrder.Resolved(
                policy: record.stop.flatMap { StopPolicy(rawValue: $0.policy) } ?? .auto,
                pace: record.stop?.bytesPerSecond, chunk: record.stop?.chunkBytes, deadline: nil,
                wait: record.stop?.isHeld == true ? .stopped : .proven)
            end(domain, holder, order, aftermath: Self.aftermath(record), StopWatcher())
        case .halted:
            adoptBacking(of: holder, answer)
            goOn(record, holder)
        default: return false
        }
        return true
    }

    /// The TD runs no more, and its holder waits to be asked for the memory: as the former tdxd would have.
    private func goOn(_ record: DomainRecord, _ holder: LiveHolder) {
        guard let domain = core.withLock({ $0.registry[record.id] }) else { return }
        let stop = record.stop
        let ending = Ending(resuming: domain.record)
        note(ending)
        core.withLock { core in core.ledger.mark(.draining, holder: record.id) }
        if stop?.isHeld == true {
            watch(holder)
            return answerHalted(ending, holder, isHeld: true, StopWatcher())
        }
        giveBack(
            ending, holder, pace: stop?.bytesPerSecond, chunk: stop?.chunkBytes, aftermath: Self.aftermath(record),
            StopWatcher())
    }

    /// The holder is ending its TD already, and nobody hears its answer: wait for its end as long as it moves.
    private func finish(_ record: DomainRecord, _ holder: LiveHolder) {
        var ending = Ending(resuming: record)
        let start = MonotonicInstant.now
        let patience = configuration.deadlines.stop
        var exit: String?
        var last: Progress?
        var deadline = start + patience
        while exit == nil, MonotonicInstant.now < deadline {
            exit = holder.process?.waitForEnd(.milliseconds(500))
            guard holder.process != nil else { break }
            guard let answer = try? holder.link.describe(timeout: .milliseconds(500)) else { continue }
            // It may only have been silent for a while.
            if takeUp(record, holder, answer) { return }
            if let step = answer.ending, step != last {
                last = step
                deadline = .now + patience
            }
        }
        if exit == nil {
            ending.holderDied = true
            holder.process?.kill()
            exit = holder.process?.waitForEnd(Self.killPatience)
        }
        // It went on alone.
        ending.takeRecord(in: holder.directory)
        ending.phases.append(
            TeardownPhase(
                name: .exit, milliseconds: MonotonicInstant.now.milliseconds(since: start),
                detail: "begun before tdxd was started; \(exit ?? "its process does not end")"))
        // The last that was heard of it; it may have given back more.
        if let last, last.phase == "release" || last.phase == "close" {
            ending.releasedBytes = max(ending.releasedBytes, last.doneBytes)
        }
        if Self.hasDied(holder) { ending.holderDied = true }
        conclude(ending, holder, aftermath: Self.aftermath(record))
    }

    /// An end that somebody had asked for is no failure: once it is proven, its certificate is all that is left to tell. That a
    /// holder died is to be seen until somebody has.
    static func aftermath(_ record: DomainRecord) -> Registry.Aftermath {
        record.stop == nil ? .remember : .forgetComplete
    }

    /// The former tdxd found that nothing of the TD may be given to anybody. There is nothing to look at again.
    private func keepInQuarantine(
        _ record: DomainRecord, _ holder: LiveHolder, _ certificate: TeardownCertificate, _ reason: String
    ) {
        var domain = Registry.Domain(record: record, state: .draining, reason: "quarantined: \(reason)")
        domain.certificate = certificate
        domain.isQuarantined = true
        do throws(ControlError) { try register(domain, holder) } catch { return }
        core.withLock { core in core.ledger.mark(.draining, holder: record.id) }
        tellQuarantine(record, reason, status: certificate.tdxStatus, isKept: holder.backing != nil)
    }

    /// Whether a holder whose process is gone was killed: one that ends in order removes its socket.
    private static func hasDied(_ holder: LiveHolder) -> Bool {
        (try? FileStatus(ofPath: Places.socket(inHolder: holder.directory), followingLinks: false)) != nil
    }

    /// The former tdxd had proven the end and told the disk; it was killed before it could clear up.
    private func clearUp(_ record: DomainRecord, _ holder: LiveHolder) {
        log.info("a TD's end was proven before", metadata: ["td": "\(record.name)", "id": "\(record.id)"])
        letGo(holder)
        core.withLock { core in _ = core.ledger.giveBack(holder: record.id) }
        do throws(LinuxError) { try DirectoryTree.remove(holder.directory) } catch {
            log.error("a holder's directory stays behind", metadata: ["reason": "\(error)"])
        }
    }

    /// Both tdxd and the holder were gone: what is left are the record, and the duplicates if a service manager kept them.
    private func bury(_ record: DomainRecord, _ holder: LiveHolder) {
        guard record.backend != nil else {
            log.warning("removing what a build left", metadata: ["td": "\(record.name)", "id": "\(record.id)"])
            return abandon(record, holder, reason: "its holder has ended")
        }
        if let reason = record.quarantine, let certificate = try? store.read(name: record.name, id: record.id) {
            return keepInQuarantine(record, holder, certificate, reason)
        }
        if (try? store.read(name: record.name, id: record.id))?.complete == true { return clearUp(record, holder) }
        let died =
            record.soFar?.holderDied == true || (record.isAttached ? record.stop == nil : Self.hasDied(holder))
        var domain = Registry.Domain(
            record: record, state: died ? .failed : .stopping,
            reason: died ? "its holder ended while no tdxd was running" : nil)
        domain.isEnding = true
        do throws(ControlError) { try register(domain, holder) } catch { return }
        core.withLock { core in core.ledger.mark(.draining, holder: record.id) }
        workers.submit { [self] in
            var ending = Ending(resuming: record)
            ending.holderDied = died
            ending.takeRecord(in: holder.directory)
            // The former tdxd may have seen it end.
            if !ending.phases.contains(where: { [.exit, .death].contains($0.name) }) {
                let memory =
                    holder.backing == nil
                    ? "the kernel took back by itself what it held"
                    : "its memory stayed with duplicates that the service manager kept"
                ending.phases.append(
                    TeardownPhase(
                        name: died ? .death : .exit, milliseconds: 0,
                        detail: "the holder ended \(died ? "" : "in order ")while no tdxd was running: \(memory)"))
            }
            conclude(ending, holder, aftermath: Self.aftermath(record))
        }
    }
}
