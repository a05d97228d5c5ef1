internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

/// One TD's end as far as it has come: what the holder said, what tdxd did, and what the certificate will say.
struct Ending: Sendable {
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
    /// The holder lives on, to keep what a page could not be taken from.
    var isWithheldByHolder = false
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

    /// The end of a TD that a client has stopped, from the beginning or after a change of tdxd.
    init(record: DomainRecord, stop: DomainRecord.StopRecord) {
        self.record = record
        holderDied = false
        policy = stop.policy
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

    /// What the next tdxd could find out from nobody.
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

    /// The backing files that nobody may hold any more.
    var filesSought: Set<FileIdentity> {
        Set(record.backing.map { FileIdentity(device: $0.device, inode: $0.inode) })
    }

    /// Why the TD's key id, and perhaps its memory, may not be given to anybody, whatever can be seen from outside: a zap or the
    /// release of its key id failed, or the module still owns something. Its pages may be poisoned, and its key id in use. Nil
    /// otherwise. Once true it stays true. The kinds of the failures decide, not their texts.
    var quarantine: String? { record.quarantine ?? failures.quarantining?.text }

    /// Its duplicates stay open: as long as they are, the kernel gives no page of the TD to anyone else.
    var keepsMemory: Bool {
        // A record of an older tdxd does not name kinds.
        failures.keepsMemory || record.quarantine != nil && failures.quarantining == nil
    }

    /// Takes the holder's reply. Its reply to a Reclaim contains what it replied to the Stop; what went wrong before and is not
    /// in it stays.
    mutating func take(_ answer: HolderInterface.Stop.Reply) {
        phases = answer.phases ?? []
        holderProofs = answer.proofs ?? []
        path = answer.path ?? path
        releasedBytes = answer.releasedBytes ?? 0
        let former = failures
        failures =
            answer.failures
            ?? Self.failures(ofOlderProgram: answer.failure, answer.tdxStatus, answer.proofs ?? [])
        failures.note(former)
        isWithheldByHolder = answer.withheld == true
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
