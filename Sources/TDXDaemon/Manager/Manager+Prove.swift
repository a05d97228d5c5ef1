internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization
internal import TDXStatusCodes

extension Manager {
    private static let debugDirectory = "/sys/kernel/debug/kvm"

    /// The common end of every TD, when its holder has been told or has died: give back what is left, close the
    /// duplicates, prove, free the key id, write the certificate, clear up.
    @discardableResult
    func conclude(
        _ ending: Ending, _ holder: LiveHolder, aftermath: Registry.Aftermath, _ watcher: StopWatcher = StopWatcher()
    ) -> TeardownCertificate {
        var ending = ending
        release(&ending, holder, watcher)
        keep(&ending, holder)
        watcher.report(Progress(phase: "prove", doneBytes: 0, totalBytes: 0))
        let start = MonotonicInstant.now
        var proofs = prove(ending, holder)
        let deadline = ending.proofDeadline ?? start + configuration.deadlines.prove
        var pause: UInt32 = 1
        while ending.quarantine == nil,
            !TeardownProofs.isOver(proofs, residencyIsKnown: ending.residentBytes != nil),
            MonotonicInstant.now < deadline
        {
            Self.sleep(milliseconds: pause)
            pause = min(pause * 2, 100)
            proofs = prove(ending, holder)
        }
        ending.phases.append(
            TeardownPhase(
                name: .prove, milliseconds: MonotonicInstant.now.milliseconds(since: start),
                detail: memoryNow(ending)))
        return settle(ending, holder, proofs, aftermath: aftermath)
    }

    /// Punches what is still resident, reads the residency once more, and closes the duplicates. Of a TD in quarantine all
    /// is kept.
    private func release(_ ending: inout Ending, _ holder: LiveHolder, _ watcher: StopWatcher) {
        // What is punched before it has acted is removed from a living TD. Of a holder that ended in order it has nothing to
        // do, but is in the TD's control group until it has seen that.
        ending.awaitLastWill(
            at: HolderPlaces.lastWill(in: holder.directory), patience: configuration.deadlines.holderReply)
        guard let backing = holder.backing else {
            if ending.keepsMemory {
                ending.phases.append(
                    TeardownPhase(
                        name: .quarantine, milliseconds: 0,
                        detail: ending.isWithheldByHolder
                            ? "the holder keeps the memory; tdxd could not get duplicates"
                            : "nobody has the memory any more: the kernel has it back"))
            }
            if !ending.isResidencyInherited {
                ending.residencyUnknown = "tdxd had no duplicates of the backing files"
            }
            return
        }
        if ending.keepsMemory { return withhold(&ending, backing) }
        let memory = configuration.memory
        let before = (try? backing.residentBytes()).map { $0.private + $0.shared } ?? .zero
        if before > .zero {
            watcher.report(Progress(phase: "reap", doneBytes: 0, totalBytes: before.rawValue))
            let outcome = Reaper.release(
                backing, total: before, chunk: memory.releaseChunk, lanes: memory.releaseThreads
            ) {
                watcher.report(Progress(phase: "reap", doneBytes: $0.rawValue, totalBytes: $1.rawValue))
            }
            ending.releasedBytes = ending.releasedBytes.addingSaturated(outcome.releasedBytes.rawValue)
            ending.phases.append(
                TeardownPhase(
                    name: .reap, milliseconds: outcome.milliseconds, bytes: outcome.releasedBytes.rawValue,
                    calls: outcome.calls, detail: "by tdxd, through its duplicates"))
            if let failure = outcome.failure { ending.failures.note(EndFailure(.reapRefused, failure)) }
        }
        count(&ending, backing)
        let closing = MonotonicInstant.now
        ending.closedAt = closing
        letGo(holder)
        ending.phases.append(
            TeardownPhase(
                name: .closeDuplicates, milliseconds: MonotonicInstant.now.milliseconds(since: closing),
                calls: UInt64(ending.duplicates), detail: "tdxd's own"))
    }

    /// Keeps the memory of a TD from everybody: its pages may be poisoned, and as long as a duplicate is open the kernel
    /// gives none of them to anyone else.
    private func withhold(_ ending: inout Ending, _ backing: Backing) {
        count(&ending, backing)
        ending.phases.append(
            TeardownPhase(
                name: .quarantine, milliseconds: 0, bytes: ending.residentBytes ?? 0,
                detail: "tdxd keeps its duplicates open, so that nobody gets the memory"))
    }

    private func count(_ ending: inout Ending, _ backing: Backing) {
        ending.duplicates = backing.files.count
        ending.isResidencyInherited = false
        do throws(LinuxError) {
            let resident = try backing.residentBytes()
            ending.residentBytes = (resident.private + resident.shared).rawValue
        } catch {
            ending.residencyUnknown = "\(error)"
        }
    }

    /// One look at the host, all proofs from it.
    private func prove(_ ending: Ending, _ holder: LiveHolder) -> [TeardownProof] {
        TeardownProofs.derive(from: look(ending, holder))
    }

    private func look(_ ending: Ending, _ holder: LiveHolder) -> TeardownEvidence {
        let exit: String? =
            switch holder.process {
            case .some(let process): process.exitIfEnded()
            case .none: "no process of the holder was left"
            }
        var evidence = TeardownEvidence(
            holderExit: exit, residentBytes: ending.residentBytes, residencyUnknown: ending.residencyUnknown,
            duplicates: ending.duplicates,
            duplicatesClosed: holder.backing?.files.allSatisfy(\.descriptor.isClosed) ?? true,
            filesSought: ending.record.backing.count, holders: [], processesSeen: 0, processesUnseen: 0,
            scanFailure: nil, machine: .none)
        if !ending.record.backing.isEmpty {
            let sought = ending.filesSought
            switch lookout.holders(of: sought) {
            case .success((let found, let othersAreHidden)):
                evidence.holders = found.holders.map(Self.describe)
                evidence.processesSeen = found.processesSeen
                evidence.processesUnseen = found.unseen.count
                evidence.processesUnfinished = found.unfinished.count
                evidence.othersAreHidden = othersAreHidden
            case .failure(let error): evidence.scanFailure = "\(error)"
            }
        }
        evidence.holderCountedNothing = ending.holderProofs.contains {
            $0.name == TeardownProofs.holderResidency && $0.holds
        }
        if ending.isResidencyInherited { evidence.residencyMethod += " by the former tdxd" }
        evidence.machine = machine(ending, holder)
        evidence.heldMemory = groups?.heldMemory(ending.record.name)
        evidence.keyCharge = keyCharge(ending.record)
        return evidence
    }

    private func keyCharge(_ record: DomainRecord) -> KeyCharge {
        KeyCharge.read(record.backend ?? .memfd, group: groups?.directory(of: record.name))
    }

    private static func describe(_ holder: InodeHolders.Holder) -> String {
        let name = (try? TextFile.read("/proc/\(holder.pid)/comm", limit: 64)).map { $0.prefix { !$0.isNewline } }
        let process = "pid \(holder.pid)" + (name.map { " (\($0))" } ?? "")
        return switch holder.means {
        case .descriptor(let number): "\(process) as descriptor \(number)"
        case .mappings(let count): "\(process) in \(count) mappings"
        }
    }

    private func machine(_ ending: Ending, _ holder: LiveHolder) -> TeardownEvidence.Machine {
        guard ending.record.backend != .memfd else { return .none }
        let pid = ending.record.holderPID ?? holder.process?.pid
        let creators = Set(ending.record.vmCreators + (pid.map { events.creators(in: $0) } ?? []))
        // Duplicates keep the VM; without any, it went when the holder closed its own.
        let since = ending.duplicates > 0 ? ending.closedAt ?? ending.start : ending.start
        if let at = events.destruction(ofVMsBy: Array(creators), since: since) {
            return .destroyed(millisecondsAfterClose: at.milliseconds(since: since))
        }
        if let names = try? TextFile.list(Self.debugDirectory) {
            if let found = TeardownEvidence.Machine.inDebugFS(names, at: Self.debugDirectory, creators: creators) {
                return found
            }
        }
        // An adopted holder that tdxd has no duplicates from: its VM may have gone while no tdxd was there to hear it.
        return .unannounced(
            creators: creators, lostEvents: events.lostEvents(since: since),
            wasKept: holder.backing != nil || holder.process?.wasStartedHere == true)
    }

    /// Frees or keeps the key id, writes the certificate, and clears up what is proven gone.
    private func settle(
        _ ending: Ending, _ holder: LiveHolder, _ proofs: [TeardownProof], aftermath: Registry.Aftermath
    ) -> TeardownCertificate {
        var ending = ending
        let id = ending.record.id
        let quarantine = ending.quarantine
        var isOver =
            quarantine == nil && TeardownProofs.isOver(proofs, residencyIsKnown: ending.residentBytes != nil)
        let key = ending.record.keyID
        /// The key id's proof is about what happens now: it is free once the certificate that says so is written.
        func concluded(isFree: Bool, _ reason: String, failure: EndFailure? = nil) -> TeardownCertificate {
            let taken = core.withLock { core in
                core.ledger.taken - (isFree && core.ledger.key(of: id) != nil ? 1 : 0)
            }
            let figures =
                "\(taken) of \(core.withLock { $0.ledger.capacityText }) taken; \(keyCharge(ending.record).words)"
            var told = ending
            if let failure { told.failures.note(failure) }
            return told.certificate(
                proofs + [
                    TeardownProof(
                        name: TeardownProofs.keyReturned, holds: isFree,
                        evidence: "key id \(key) \(reason), \(figures)")
                ])
        }
        var certificate =
            isOver
            ? concluded(isFree: true, "is free in the ledger")
            : concluded(
                isFree: false,
                quarantine == nil ? "stays taken until the other proofs hold" : "is quarantined")
        do {
            try store.write(certificate, keeping: listedCertificates)
        } catch {
            // What nobody can read later is not proven: it is tried again, and until then nothing is free.
            let failure = EndFailure(.certificateUnwritten, "the certificate could not be written: \(error)")
            isOver = false
            certificate = concluded(
                isFree: false, "stays taken until the certificate is written", failure: failure)
            log.critical(
                "a certificate could not be written", metadata: ["td": "\(ending.record.name)", "reason": "\(error)"])
        }
        core.withLock { core in
            if isOver { core.ledger.giveBack(holder: id) } else { core.ledger.mark(.draining, holder: id) }
        }
        report(certificate)
        // What is over and not complete will never be: whoever asked gets to know, others find it listed.
        let outcome: Registry.Aftermath = isOver ? aftermath : quarantine.map { .quarantine($0) } ?? .lookAgain
        if let quarantine {
            // The next tdxd has not heard what the holder said.
            ending.record.quarantine = quarantine
            try? write(ending.record, in: holder.directory)
            tellQuarantine(ending.record, quarantine, status: ending.failures.status, isKept: holder.backing != nil)
        }
        if isOver {
            do throws(LinuxError) { try DirectoryTree.remove(holder.directory) } catch {
                log.error("a holder's directory stays behind", metadata: ["reason": "\(error)"])
            }
            groups?.remove(ending.record.name)
            if let pid = holder.process?.pid { events.forget(process: pid) }
        }
        core.withLock { core in
            core.registry.ended(id: id, certificate: certificate, aftermath: outcome)
            if isOver {
                core.holders[id] = nil
                core.endings[id] = nil
            } else {
                core.endings[id] = ending
            }
        }
        return certificate
    }

    /// Loud: somebody has to restart the host some day.
    func tellQuarantine(_ record: DomainRecord, _ reason: String, status: String?, isKept: Bool) {
        var metadata: Logger.Metadata = [
            "td": "\(record.name)", "id": "\(record.id)", "key_id": "\(record.keyID)", "reason": "\(reason)",
            "emulated": "\(record.backend?.isEmulated ?? false)", "memory_is_kept": "\(isKept)",
        ]
        if let status {
            metadata["tdx_status"] = "\(status)"
            metadata["tdx_status_name"] =
                "\(TDXStatus(hexadecimal: status)?.name ?? "unknown")"
        }
        log.critical("a TD is quarantined", metadata: metadata)
    }

    private func report(_ certificate: TeardownCertificate) {
        let open = certificate.proofs.filter { !$0.holds }.map { "\($0.name): \($0.evidence)" }
        var metadata: Logger.Metadata = [
            "td": "\(certificate.name)", "id": "\(certificate.id)", "backend": "\(certificate.backend.rawValue)",
            "released_bytes": "\(certificate.releasedBytes)", "milliseconds": "\(certificate.milliseconds)",
            "holder_died": "\(certificate.holderDied)",
        ]
        guard !certificate.complete else { return log.info("a TD has ended, all proven", metadata: metadata) }
        metadata["open"] = "\(open.joined(separator: "; "))"
        if let failure = certificate.failure { metadata["failure"] = "\(failure)" }
        if let status = certificate.tdxStatus { metadata["tdx_status"] = "\(status)" }
        log.critical("a TD has ended and not all is proven", metadata: metadata)
    }

    /// What the host says of its memory at this moment: for people, no proof, since others use the host, too.
    private func memoryNow(_ ending: Ending) -> String? {
        guard let now = (try? MemoryInformation.ofHost())?.available.rawValue else { return nil }
        guard let before = ending.availableBefore?.rawValue else { return "MemAvailable is \(now) bytes" }
        let change = now >= before ? "\(now - before) more" : "\(before - now) fewer"
        return "MemAvailable is \(now) bytes, \(change) than when the end began; \(ending.releasedBytes) were released"
    }

    // MARK: Ends that are not proven yet

    /// Looks at them again. Called now and then from the event loop.
    func lookAtDraining() {
        let waiting = core.withLock { core in
            core.registry.takeDraining().compactMap { domain in
                core.endings[domain.record.id].flatMap { ending in
                    core.holders[domain.record.id].map { (ending, $0) }
                }
            }
        }
        for (ending, holder) in waiting {
            workers.submit { self.proveAgain(ending, holder, aftermath: Self.aftermath(ending.record)) }
        }
    }

    @discardableResult
    func proveAgain(_ ending: Ending, _ holder: LiveHolder, aftermath: Registry.Aftermath) -> TeardownCertificate {
        settle(ending, holder, prove(ending, holder), aftermath: aftermath)
    }
}
