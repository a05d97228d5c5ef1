internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

/// One TD's end as far as it has come: what the holder said, what tdxd did, and what the certificate will say.
struct Ending: Sendable {
    var record: DomainRecord
    let startedAt: String
    let start: MonotonicInstant
    var policy = "auto"
    /// As the holder took it; a TD whose holder died is always taken apart page by page.
    var path = "dynamic-removal"
    var holderDied: Bool
    var phases: [TeardownPhase] = []
    /// The holder's own part.
    var holderProofs: [TeardownProof] = []
    var releasedBytes: UInt64 = 0
    var failure: String?
    /// When tdxd closed its duplicates.
    var closedAt: MonotonicInstant?
    /// Files that there were duplicates of.
    var duplicates = 0
    /// Read just before they were closed.
    var residentBytes: UInt64?
    var residencyUnknown: String?

    init(record: DomainRecord, holderDied: Bool, failure: String? = nil) {
        self.record = record
        self.holderDied = holderDied
        self.failure = failure
        startedAt = WallTime.now.rfc3339
        start = .now
    }

    /// The backing files that nobody may hold any more.
    var filesSought: Set<FileIdentity> {
        Set(record.backing.map { FileIdentity(device: $0.device, inode: $0.inode) })
    }

    func certificate(_ proofs: [TeardownProof]) -> TeardownCertificate {
        TeardownCertificate(
            name: record.name, id: record.id, backend: record.backend ?? .memfd, policy: policy, path: path,
            holderDied: holderDied, startedAt: startedAt,
            milliseconds: MonotonicInstant.now.milliseconds(since: start), memoryBytes: record.memoryBytes,
            releasedBytes: releasedBytes, keyID: record.backend == .tdx ? nil : record.keyID, phases: phases,
            proofs: holderProofs + proofs, failure: failure)
    }
}
