/// One phase of a teardown: what it took and what it gave back.
public struct TeardownPhase: Codable, Hashable, Sendable {
    public var name: EndPhase
    public var milliseconds: Double
    public var bytes: UInt64
    /// System calls or SEAMCALLs that did the work of the phase.
    public var calls: UInt64
    public var detail: String?

    public init(name: EndPhase, milliseconds: Double, bytes: UInt64 = 0, calls: UInt64 = 0, detail: String? = nil) {
        self.name = name
        self.milliseconds = milliseconds
        self.bytes = bytes
        self.calls = calls
        self.detail = detail
    }
}

/// One statement about the end of a TD, with what was read to make it.
public struct TeardownProof: Codable, Hashable, Sendable {
    public var name: String
    public var holds: Bool
    public var evidence: String
    /// What could not be looked at, so that the proof holds only as far as could be seen; nil when nothing was left out.
    public var unseen: String?

    public init(name: String, holds: Bool, evidence: String, unseen: String? = nil) {
        self.name = name
        self.holds = holds
        self.evidence = evidence
        self.unseen = unseen
    }
}

/// What is known of the end of a TD, and how it is known.
public struct TeardownCertificate: Codable, Hashable, Sendable {
    public var name: String
    public var id: String
    public var backend: Backend
    public var emulated: Bool
    public var policy: String
    /// `terminate-first`, or `dynamic-removal` where the kernel has no KVM_TDX_TERMINATE_VM.
    public var path: EndPath
    public var holderDied: Bool
    /// RFC 3339, UTC.
    public var startedAt: String
    public var milliseconds: Double
    public var memoryBytes: UInt64
    public var releasedBytes: UInt64
    public var keyID: UInt16?
    public var phases: [TeardownPhase]
    public var proofs: [TeardownProof]
    /// The end is over, every proof holds and nothing failed.
    public var complete: Bool
    /// All that went wrong, by kind; nil from a tdxd that does not name kinds.
    public var failures: [EndFailure]?
    /// The same in words; nil when nothing did.
    public var failure: String?
    /// What the TDX module, or its emulation, answered to what failed, in hexadecimal; nil where it is not known.
    public var tdxStatus: String?
    /// Who rewrites pages that are taken from the TD, in words: never tdxd. Nil from a tdxd that does not say.
    public var pageReset: String?
    /// What is still to come, such as memory that policy deferred holds back; nil when the end is over.
    public var pending: String?

    public init(
        name: String, id: String, backend: Backend, policy: String, path: EndPath, holderDied: Bool, startedAt: String,
        milliseconds: Double, memoryBytes: UInt64, releasedBytes: UInt64, keyID: UInt16?, phases: [TeardownPhase],
        proofs: [TeardownProof], failures: [EndFailure], pageReset: String? = nil, pending: String? = nil
    ) {
        self.name = name
        self.id = id
        self.backend = backend
        self.emulated = backend.isEmulated
        self.policy = policy
        self.path = path
        self.holderDied = holderDied
        self.startedAt = startedAt
        self.milliseconds = milliseconds
        self.memoryBytes = memoryBytes
        self.releasedBytes = releasedBytes
        self.keyID = keyID
        self.phases = phases
        self.proofs = proofs
        self.complete = failures.isEmpty && pending == nil && !proofs.isEmpty && proofs.allSatisfy(\.holds)
        self.failures = failures
        failure = failures.words
        tdxStatus = failures.status
        self.pageReset = pageReset
        self.pending = pending
    }

    enum CodingKeys: String, CodingKey {
        case name, id, backend, emulated, policy, path
        case holderDied = "holder_died"
        case startedAt = "started_at"
        case milliseconds
        case memoryBytes = "memory_bytes"
        case releasedBytes = "released_bytes"
        case keyID = "key_id"
        case phases, proofs, complete, failures, failure
        case tdxStatus = "tdx_status"
        case pageReset = "page_reset"
        case pending
    }
}
