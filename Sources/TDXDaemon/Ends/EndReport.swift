internal import ControlInterface
internal import DomainEnd
internal import FoundationEssentials
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage
internal import Terms

/// What is known of one TD's end, for its certificate: what the holder answered, and what tdxd did. It decides nothing.
struct EndReport: Sendable {
    var record: DomainRecord
    let startedAt: String
    let start: MonotonicInstant
    var policy = "auto"
    /// As the holder took it. A TD whose holder died is taken apart page by page, unless its last will terminated it.
    var path = EndPath.dynamicRemoval
    var holderDied: Bool
    var phases: [TeardownPhase] = []
    /// The holder's own part.
    var holderProofs: [TeardownProof] = []
    var releasedBytes: UInt64 = 0
    /// All that went wrong, the holder's and tdxd's own.
    var failures: [EndFailure] = []
    /// At which memory comes back; nil for as fast as it goes.
    var bytesPerSecond: UInt64?
    var chunkBytes: UInt64?
    /// When tdxd closed its duplicates.
    var closedAt: MonotonicInstant?
    /// Files that there were duplicates of.
    var duplicates = 0
    /// Read just before they were closed.
    var residentBytes: UInt64?
    var residencyUnknown: String?
    /// The former tdxd has read it.
    var isResidencyInherited = false
    /// MemAvailable when the end began, or this tdxd went on with it.
    let availableBefore = (try? MemoryInformation.ofHost())?.available
    /// Until then proofs that do not hold yet are repeated; nil for the configured time.
    var proofDeadline: MonotonicInstant?

    /// The end of a TD that a client stops now.
    init(record: DomainRecord, order: StopOrder.Resolved) {
        self.init(record: record, holderDied: false, failures: Self(resuming: record).failures)
        policy = order.policy.rawValue
        bytesPerSecond = order.pace
        chunkBytes = order.chunk
        proofDeadline = order.deadline.map { start + $0 }
    }

    /// The end of a TD that a client has stopped, from the beginning or after a change of tdxd.
    init(record: DomainRecord, stop: DomainRecord.StopRecord) {
        self.record = record
        holderDied = false
        policy = stop.policy
        bytesPerSecond = stop.bytesPerSecond
        chunkBytes = stop.chunkBytes
        startedAt = stop.beganAt
        start = MonotonicInstant(nanoseconds: stop.beganNanoseconds)
    }

    init(record: DomainRecord, holderDied: Bool, failures: [EndFailure] = []) {
        self.record = record
        self.holderDied = holderDied
        self.failures = failures
        startedAt = WallTime.now.rfc3339
        start = .now
    }

    /// An end that a former tdxd had begun or that has happened without one, with all that is known of it.
    init(resuming record: DomainRecord) {
        if let stop = record.stop {
            self.init(record: record, stop: stop)
        } else {
            self.init(record: record, holderDied: false)
        }
        guard let soFar = record.soFar else { return }
        path = soFar.path
        holderDied = soFar.holderDied
        phases = soFar.phases
        holderProofs = soFar.holderProofs
        releasedBytes = soFar.releasedBytes
        failures = soFar.failures ?? Self.failures(ofOlderProgram: soFar.failure, soFar.tdxStatus, soFar.holderProofs)
        duplicates = soFar.duplicates
        residentBytes = soFar.residentBytes
        isResidencyInherited = residentBytes != nil
    }

    /// What the next tdxd cannot learn in another way.
    struct SoFar: Codable, Hashable, Sendable {
        var path: EndPath
        var holderDied: Bool
        var phases: [TeardownPhase]
        var holderProofs: [TeardownProof]
        var releasedBytes: UInt64
        /// Nil in a record of an older tdxd, which wrote `failure` and `tdxStatus` instead.
        var failures: [EndFailure]?
        var failure: String?
        var tdxStatus: String?
        var duplicates: Int
        /// Nil until tdxd has given back what was left, and counted.
        var residentBytes: UInt64?

        enum CodingKeys: String, CodingKey {
            case path
            case holderDied = "holder_died"
            case phases
            case holderProofs = "holder_proofs"
            case releasedBytes = "released_bytes"
            case failures, failure
            case tdxStatus = "tdx_status"
            case duplicates
            case residentBytes = "resident_bytes"
        }
    }

    var soFar: SoFar {
        SoFar(
            path: path, holderDied: holderDied, phases: phases, holderProofs: holderProofs,
            releasedBytes: releasedBytes, failures: failures, failure: failures.words, tdxStatus: failures.status,
            duplicates: duplicates,
            residentBytes: residentBytes)
    }

    /// The backing files that no process may hold any more.
    var filesSought: Set<FileIdentity> {
        Set(record.backing.map { FileIdentity(device: $0.device, inode: $0.inode) })
    }

    /// Why the TD's key id, and perhaps its memory, may not be given to another TD, whatever can be seen from outside: a zap or the
    /// release of its key id failed, or the module still owns something. Its pages may be poisoned, and its key id in use. Nil
    /// otherwise. Once true it stays true. The kinds of the failures decide, not their texts.
    var quarantine: String? { record.quarantine ?? failures.quarantining?.text }

    /// What no other TD gets, as far as the failures are known.
    var kept: Kept {
        // A record of an older tdxd does not name kinds.
        record.quarantine != nil && failures.quarantining == nil ? [.key, .memory] : failures.kept
    }

    /// Takes what was counted in the files that tdxd had duplicates of.
    mutating func take(_ residency: Result<UInt64, LinuxError>, files: Int) {
        duplicates = files
        isResidencyInherited = false
        switch residency {
        case .success(let bytes): residentBytes = bytes
        case .failure(let error): residencyUnknown = "\(error)"
        }
    }

    /// Takes the holder's reply. Its reply to a Reclaim contains what it replied to the Stop; what went wrong before and is not
    /// in it stays.
    mutating func take(_ answer: HolderInterface.Stop.Reply) {
        let own = phases.filter { !Self.holderPhases.contains($0.name) }
        phases = (answer.phases ?? []) + own
        holderProofs = answer.proofs ?? []
        path = answer.path ?? path
        releasedBytes = answer.releasedBytes ?? 0
        let former = failures
        failures = Self.failures(of: answer)
        failures.note(former)
    }

    /// Phases that a holder reports; all others are tdxd's own.
    private static let holderPhases: Set<EndPhase> = [.quiesce, .terminate, .release, .close]

    /// Takes what the holder has written down of its end, where tdxd has not heard it.
    mutating func takeHolderRecord(in directory: String) {
        // It was heard: the holder's answer and its record are one.
        guard !phases.contains(where: { $0.name == .release }) else { return }
        guard let bytes = try? DurableFile.read(path: HolderPlaces.end(in: directory)), !bytes.isEmpty,
            let answer = try? JSONDecoder().decode(HolderInterface.Stop.Reply.self, from: Data(bytes)),
            answer.phases != nil
        else { return }
        take(answer)
    }

    static func failures(of answer: HolderInterface.Stop.Reply) -> [EndFailure] {
        answer.failures ?? failures(ofOlderProgram: answer.failure, answer.tdxStatus, answer.proofs ?? [])
    }

    /// The failures of a holder or record that does not name kinds: what they kept is not known, so they keep everything.
    static func failures(
        ofOlderProgram failure: String?, _ status: String?, _ proofs: [TeardownProof]
    ) -> [EndFailure] {
        var failures: [EndFailure] = []
        if let failure { failures.append(EndFailure(.unspecified, status: status, failure)) }
        // What the holder could not count others have counted since.
        let open = proofs.first { !$0.holds && $0.name != TeardownProofs.holderResidency }
        if let open { failures.append(EndFailure(.unspecified, "\(open.name): \(open.evidence)")) }
        return failures
    }

    /// - Parameter pending: what is still to come; nil when the end is over.
    func certificate(_ proofs: [TeardownProof], pending: String? = nil) -> TeardownCertificate {
        TeardownCertificate(
            name: record.name, id: record.id, backend: record.backend ?? .memfd, policy: policy, path: path,
            holderDied: holderDied, startedAt: startedAt,
            milliseconds: MonotonicInstant.now.milliseconds(since: start), memoryBytes: record.memoryBytes,
            releasedBytes: releasedBytes, keyID: record.backend == .tdx ? nil : record.keyID, phases: phases,
            proofs: holderProofs + proofs, failures: failures,
            pageReset: PageReset.words(record.backend ?? .memfd, hasErratum: PageReset.hostHasErratum), pending: pending
        )
    }
}

extension EndReport {
    /// The last will's record could not be read.
    mutating func takeUnreadableLastWill(_ error: LinuxError, waited: Double) {
        phases.append(
            TeardownPhase(
                name: .lastWill, milliseconds: waited,
                detail: "its record cannot be read, so it is not known whether it acted: \(error)"))
    }

    /// Takes what the last will has done. A will that had nothing to do leaves no phase.
    mutating func take(_ reading: LastWillRecord.Reading, waited: Double) {
        let record = reading.record
        switch record.state {
        case _ where !reading.isFinal:
            phases.append(
                TeardownPhase(
                    name: .lastWill, milliseconds: waited,
                    detail: "process \(record.pid) has not ended; it is not waited for any longer"))
        case .standingBy, .notNeeded: break
        case .armed:
            phases.append(
                TeardownPhase(
                    name: .lastWill, milliseconds: waited,
                    detail: "process \(record.pid) did not act: it had been killed, too"))
        case .acted:
            if record.result >= 0, !record.isRehearsal { path = .terminateFirst }
            phases.append(
                TeardownPhase(
                    name: .lastWill, milliseconds: record.done.milliseconds(since: record.noticed),
                    calls: UInt64(record.attempts), detail: Self.words(of: record)))
        }
    }

    private static func words(of record: LastWillRecord) -> String {
        let answer =
            record.result >= 0
            ? "answered \(record.result)"
            : "refused: \(LinuxError("ioctl", Errno(rawValue: -record.result)).description)"
        if record.isRehearsal {
            return "rehearsal by process \(record.pid): KVM_CHECK_EXTENSION was \(answer); nothing was terminated"
        }
        let status = record.status == 0 ? "" : ", TDX status 0x\(String(record.status, radix: 16))"
        return "process \(record.pid): KVM_TDX_TERMINATE_VM was \(answer)\(status)"
    }
}

/// What rewrites pages that are taken from a TD before another program uses them. Never tdxd: what KVM takes back it holds until
/// it has freed it, and rewrites it then itself, with 64-byte direct stores, where a smaller write would poison it.
/// Source: reference/kvm.md §4.7.
enum PageReset {
    /// Whether this CPU has the partial-write erratum; nil where /proc/cpuinfo does not show it.
    static let hostHasErratum = (try? ProcessorInformation.ofHost())?.hasPartialWriteErratum

    /// For a plan and a certificate.
    static func words(_ backend: Backend, hasErratum: Bool?) -> String {
        guard !backend.isEmulated else {
            return "none: the TDX module is emulated, and its private pages are ordinary memory"
        }
        return switch hasErratum {
        case true?:
            "by the kernel, for each page that it takes from the TD, since this CPU has the partial-write erratum; tdxd neither does nor "
                + "sees it"
        case false?: "none: this CPU does not have the partial-write erratum, and the kernel leaves it out"
        case nil:
            "not known: the kernel does it where the CPU has the partial-write erratum, which /proc/cpuinfo does not tell"
        }
    }
}
