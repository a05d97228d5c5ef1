internal import ControlInterface
internal import DomainEnd
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization
internal import Terms

/// What tdxd does itself in an end: memory that is left, a look at the host, the certificate. On threads of the pool.
extension Ends {
    private static let debugDirectory = "/sys/kernel/debug/kvm"
    /// How often an end is looked at again that was not proven.
    static let lookInterval = Duration.seconds(5)
    private static let longestLookPause = Duration.milliseconds(100)

    // MARK: Memory

    /// Punches what is still resident, reads the residency once more, and closes the duplicates.
    func returnMemory(_ id: String) {
        guard let holder = holder(id) else { return }
        guard let backing = holder.backing else { return handleMemoryDone(id) { Self.noteNoDuplicates(&$0, id) } }
        let memory = configuration.memory
        let before = (try? backing.residentBytes()).map { $0.private + $0.shared } ?? .zero
        var outcome: Reaper.Outcome?
        if before > .zero {
            report(id, Progress(phase: "reap", doneBytes: 0, totalBytes: before.rawValue))
            outcome = Reaper.release(
                backing, total: before, chunk: memory.releaseChunk, lanes: memory.releaseThreads
            ) {
                report(id, Progress(phase: "reap", doneBytes: $0.rawValue, totalBytes: $1.rawValue))
            }
        }
        let residency = Self.count(backing)
        let closing = MonotonicInstant.now
        manager.letGo(holder)
        let closingTime = MonotonicInstant.now.milliseconds(since: closing)
        handleMemoryDone(id) { work in
            if let outcome {
                work.report.releasedBytes = work.report.releasedBytes.addingSaturated(outcome.releasedBytes.rawValue)
                work.report.phases.append(
                    TeardownPhase(
                        name: .reap, milliseconds: outcome.milliseconds, bytes: outcome.releasedBytes.rawValue,
                        calls: outcome.calls, detail: "by tdxd, through its duplicates"))
                if let failure = outcome.failure {
                    work.report.failures.note(EndFailure(.reapRefused, failure))
                }
            }
            work.report.take(residency, files: backing.files.count)
            work.report.closedAt = closing
            work.report.phases.append(
                TeardownPhase(
                    name: .closeDuplicates, milliseconds: closingTime, calls: UInt64(backing.files.count),
                    detail: "tdxd's own"))
        }
    }

    /// Keeps the memory of a TD from every other: its pages may be poisoned, and as long as a duplicate is open the kernel gives
    /// none of them away.
    func keepMemory(_ id: String) {
        guard let holder = holder(id), let end = domain(id)?.end else { return }
        guard let backing = holder.backing else {
            return handleMemoryDone(id) { work in
                work.report.phases.append(
                    TeardownPhase(
                        name: .quarantine, milliseconds: 0,
                        detail: end.holderIsGone
                            ? "no process has the memory any more: the kernel has it back"
                            : "the holder keeps the memory; tdxd could not get duplicates"))
                Self.noteNoDuplicates(&work, id)
            }
        }
        let residency = Self.count(backing)
        handleMemoryDone(id) { work in
            work.report.take(residency, files: backing.files.count)
            work.report.phases.append(
                TeardownPhase(
                    name: .quarantine, milliseconds: 0, bytes: work.report.residentBytes ?? 0,
                    detail: "tdxd keeps its duplicates open, so that the memory is not given on"))
        }
    }

    private func handleMemoryDone(_ id: String, _ change: (inout EndWork) -> Void) {
        handle(.memoryDone, id) { work, _, _ in
            change(&work)
            work.waitingSince = .now
            work.lookPause = .milliseconds(1)
        }
    }

    private static func noteNoDuplicates(_ work: inout EndWork, _ id: String) {
        guard !work.report.isResidencyInherited else { return }
        work.report.residencyUnknown = "tdxd had no duplicates of the backing files"
    }

    private static func count(_ backing: Backing) -> Result<UInt64, LinuxError> {
        do throws(LinuxError) {
            let resident = try backing.residentBytes()
            return .success((resident.private + resident.shared).rawValue)
        } catch {
            return .failure(error)
        }
    }

    private func report(_ id: String, _ step: Progress) {
        for watcher in work(id)?.watchers ?? [] { watcher.report(step) }
    }

    // MARK: Looks

    /// One look at the host, all proofs from it.
    func look(_ id: String) {
        guard let work = work(id), let holder = holder(id), let domain = domain(id) else { return }
        if work.report.phases.last?.name != .prove {
            report(id, Progress(phase: "prove", doneBytes: 0, totalBytes: 0))
        }
        var report = work.report
        report.record = domain.record
        let proofs = TeardownProofs.derive(from: evidence(report, holder))
        let start = work.waitingSince ?? .now
        if MonotonicInstant.now >= work.report.proofDeadline ?? (start + configuration.deadlines.prove) {
            handle(.proofTimePassed, id)
        }
        let isOver = TeardownProofs.isOver(proofs, residencyIsKnown: report.residentBytes != nil)
        let look: Look = isOver ? proofs.allSatisfy(\.holds) ? .proven : .unmeasured : .open
        handle(.looked(look), id) { work, _, _ in work.proofs = proofs }
    }

    /// - Parameter pause: nil for a short one, which grows from look to look.
    func lookAgain(_ id: String, after pause: Duration?) {
        let short = work(id)?.lookPause ?? .milliseconds(1)
        if pause == nil { change(id) { $0.lookPause = min(short * 2, Self.longestLookPause) } }
        loop.perform { loop.schedule(after: pause ?? short) { handle(.lookDue, id) } }
    }

    private func evidence(_ report: EndReport, _ holder: LiveHolder) -> TeardownEvidence {
        let exit: String? =
            switch holder.process {
            case .some(let process): process.exitIfEnded()
            case .none: "no process of the holder was left"
            }
        var evidence = TeardownEvidence(
            holderExit: exit, residentBytes: report.residentBytes, residencyUnknown: report.residencyUnknown,
            duplicates: report.duplicates,
            duplicatesClosed: holder.backing?.files.allSatisfy(\.descriptor.isClosed) ?? true,
            filesSought: report.record.backing.count, holders: [], processesSeen: 0, processesUnseen: 0,
            scanFailure: nil, machine: .none)
        if !report.record.backing.isEmpty {
            let sought = report.filesSought
            switch manager.procReader.holders(of: sought) {
            case .success((let found, let othersAreHidden)):
                evidence.holders = found.holders.map(Self.describe)
                evidence.processesSeen = found.processesSeen
                evidence.processesUnseen = found.unseen.count
                evidence.processesUnfinished = found.unfinished.count
                evidence.othersAreHidden = othersAreHidden
            case .failure(let error): evidence.scanFailure = "\(error)"
            }
        }
        evidence.holderCountedNothing = report.holderProofs.contains {
            $0.name == TeardownProofs.holderResidency && $0.holds
        }
        if report.isResidencyInherited { evidence.residencyMethod += " by the former tdxd" }
        evidence.machine = machine(report, holder)
        evidence.heldMemory = manager.groups?.heldMemory(report.record.name)
        evidence.keyCharge = keyCharge(report.record)
        return evidence
    }

    private func keyCharge(_ record: DomainRecord) -> KeyCharge {
        KeyCharge.read(record.backend ?? .memfd, group: manager.groups?.directory(of: record.name))
    }

    private static func describe(_ holder: InodeHolders.Holder) -> String {
        let name = (try? TextFile.read("/proc/\(holder.pid)/comm", limit: 64)).map { $0.prefix { !$0.isNewline } }
        let process = "pid \(holder.pid)" + (name.map { " (\($0))" } ?? "")
        return switch holder.means {
        case .descriptor(let number): "\(process) as descriptor \(number)"
        case .mappings(let count): "\(process) in \(count) mappings"
        }
    }

    private func machine(_ report: EndReport, _ holder: LiveHolder) -> TeardownEvidence.Machine {
        guard report.record.backend != .memfd else { return .none }
        let pid = report.record.holderPID ?? holder.process?.pid
        let creators = Set(report.record.vmCreators + (pid.map { manager.events.creators(in: $0) } ?? []))
        // Duplicates keep the VM; without any, it went when the holder closed its own.
        let since = report.duplicates > 0 ? report.closedAt ?? report.start : report.start
        if let at = manager.events.destruction(ofVMsBy: Array(creators), since: since) {
            return .destroyed(millisecondsAfterClose: at.milliseconds(since: since))
        }
        if let names = try? TextFile.list(Self.debugDirectory) {
            if let found = TeardownEvidence.Machine.inDebugFS(names, at: Self.debugDirectory, creators: creators) {
                return found
            }
        }
        // An adopted holder that tdxd has no duplicates from: its VM may have gone while no tdxd was there to hear it.
        return .unannounced(
            creators: creators, lostEvents: manager.events.lostEvents(since: since),
            wasKept: holder.backing != nil || holder.process?.wasStartedHere == true)
    }

    // MARK: The certificate

    /// Writes what has come of the end. A key id is free once the certificate that says so is written.
    func writeCertificate(_ verdict: Verdict, _ id: String) {
        change(id) { work in
            guard !work.report.phases.contains(where: { $0.name == .prove }) else { return }
            let start = work.waitingSince ?? .now
            work.report.phases.append(
                TeardownPhase(
                    name: .prove, milliseconds: MonotonicInstant.now.milliseconds(since: start),
                    detail: memoryNow(work.report)))
        }
        guard var work = work(id) else { return }
        let keyFailed = "stays taken until the certificate is written"
        var certificate: TeardownCertificate
        switch verdict {
        case .over: certificate = certify(work, isFree: true, "is free in the ledger")
        case .open: certificate = certify(work, isFree: false, "stays taken until the other proofs hold")
        case .quarantine: certificate = certify(work, isFree: false, "is quarantined")
        }
        var isWritten = true
        do {
            try manager.store.write(certificate, keeping: manager.listedCertificates)
        } catch {
            // What cannot be read later is not proven: it is tried again, and until then nothing is free.
            isWritten = false
            work.report.failures.note(
                EndFailure(.certificateUnwritten, "the certificate could not be written: \(error)"))
            certificate = certify(work, isFree: false, keyFailed)
            log.critical(
                "a certificate could not be written",
                metadata: ["td": "\(work.report.record.name)", "reason": "\(error)"])
        }
        tell(certificate)
        handle(.certificateWritten(isWritten), id) { work, _, _ in work.certificate = certificate }
    }

    /// The key id's proof is about what happens now.
    private func certify(_ work: EndWork, isFree: Bool, _ reason: String) -> TeardownCertificate {
        let record = work.report.record
        let (taken, capacity) = manager.core.withLock { core in
            let own = isFree && core.ledger.key(of: record.id) != nil ? 1 : 0
            return (core.ledger.taken - own, core.ledger.capacityText)
        }
        return work.report.certificate(
            work.proofs + [
                TeardownProof(
                    name: TeardownProofs.keyReturned, holds: isFree,
                    evidence: "key id \(record.keyID) \(reason), \(taken) of \(capacity) taken; "
                        + keyCharge(record).words)
            ])
    }

    private func tell(_ certificate: TeardownCertificate) {
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

    /// The host's memory at this moment: for people, no proof, since others use the host, too.
    private func memoryNow(_ report: EndReport) -> String? {
        guard let now = (try? MemoryInformation.ofHost())?.available.rawValue else { return nil }
        guard let before = report.availableBefore?.rawValue else { return "MemAvailable is \(now) bytes" }
        let change = now >= before ? "\(now - before) more" : "\(before - now) fewer"
        return "MemAvailable is \(now) bytes, \(change) than when the end began; \(report.releasedBytes) were released"
    }
}
