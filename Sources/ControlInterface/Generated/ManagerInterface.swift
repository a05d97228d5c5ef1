// Written by scripts/generate-interfaces; changes belong into the .varlink file.

public import Terms
public import Varlink

/// The kind of host a TD runs on. Except for tdx the TDX module is the software one, and "emulated" is true wherever it
/// appears.
public enum Backend: String, Codable, Hashable, Sendable, CaseIterable {
    /// Real hardware.
    case tdx
    /// A type-1 VM of KVM.
    case softwareProtected = "software_protected"
    /// Private memory is a guest_memfd.
    case guestMemfd = "guest_memfd"
    /// Private memory is a sealed memfd.
    case memfd
}

/// The state of a TD as a client of tdxd sees it.
public enum TrustDomainState: String, Codable, Hashable, Sendable, CaseIterable {
    /// Being loaded.
    case building
    /// Finalized.
    case runnable
    /// Being torn down.
    case stopping
    /// Its holder died or its VM is dead.
    case failed
    /// Ended for its user, but memory or key id are not yet proven free.
    case draining
}

/// On which NUMA nodes a TD's memory is allocated.
public struct NUMAPolicy: Codable, Hashable, Sendable {
    /// bind: these nodes and no others; interleave: page by page over these nodes.
    public var policy: NUMAPolicy.Kind
    /// One or more different numbers, 0 to 63, of nodes with memory.
    public var nodes: NUMANodes

    public init(policy: NUMAPolicy.Kind, nodes: NUMANodes) {
        self.policy = policy
        self.nodes = nodes
    }
}

/// A NUMA policy that was asked for, and for which side of memory it is in force.
public struct NUMAPlacement: Codable, Hashable, Sendable {
    public var policy: NUMAPolicy.Kind
    public var nodes: [Int]
    public var privateApplied: Bool
    public var sharedApplied: Bool
    /// Why it is not in force for the other side.
    public var reason: String?

    public init(
        policy: NUMAPolicy.Kind, nodes: [Int], privateApplied: Bool, sharedApplied: Bool, reason: String? = nil
    ) {
        self.policy = policy
        self.nodes = nodes
        self.privateApplied = privateApplied
        self.sharedApplied = sharedApplied
        self.reason = reason
    }

    enum CodingKeys: String, CodingKey {
        case policy
        case nodes
        case privateApplied = "private_applied"
        case sharedApplied = "shared_applied"
        case reason
    }
}

/// One TD, as List and Show return it.
public struct TrustDomain: Codable, Hashable, Sendable {
    public var name: String
    /// 32 hexadecimal digits, never used twice.
    public var id: String
    public var state: TrustDomainState
    /// Why, for state failed and draining.
    public var reason: String?
    public var backend: Backend
    public var emulated: Bool
    public var memoryBytes: UInt64
    public var privateBytes: UInt64
    public var sharedBytes: UInt64
    /// In transition in either direction; counts as private for safety.
    public var convertingBytes: UInt64
    /// Counted by the kernel over all backing files; null where it cannot count them, or has not been asked yet.
    public var residentBytes: UInt64?
    public var residentPrivateBytes: UInt64?
    public var residentSharedBytes: UInt64?
    public var vcpus: Int
    /// Null where the kernel keeps it to itself (backend tdx).
    public var keyID: UInt16?
    public var holderPID: Int32
    /// 96 hexadecimal digits.
    public var mrtd: String?
    public var firmware: String?
    /// RFC 3339, UTC.
    public var createdAt: String
    public var ownerUID: UInt32
    /// Null where none was asked for.
    public var numa: NUMAPlacement?
    /// What happens when the holder is killed. armed: a second process that shares its memory terminates the TD.
    /// rehearsal: on an emulated backend that process makes a call that changes nothing. null: nothing.
    public var lastWill: LastWillState?
    /// Whose process the holder is; null from a tdxd that knows one kind only: held.
    public var kind: HolderKind?

    public init(
        name: String, id: String, state: TrustDomainState, reason: String? = nil, backend: Backend, memoryBytes: UInt64,
        privateBytes: UInt64, sharedBytes: UInt64, convertingBytes: UInt64, residentBytes: UInt64?,
        residentPrivateBytes: UInt64? = nil, residentSharedBytes: UInt64? = nil, vcpus: Int, keyID: UInt16? = nil,
        holderPID: Int32, mrtd: String? = nil, firmware: String? = nil, createdAt: String, ownerUID: UInt32,
        numa: NUMAPlacement? = nil, lastWill: LastWillState? = nil, kind: HolderKind? = nil
    ) {
        self.name = name
        self.id = id
        self.state = state
        self.reason = reason
        self.backend = backend
        self.emulated = backend.isEmulated
        self.memoryBytes = memoryBytes
        self.privateBytes = privateBytes
        self.sharedBytes = sharedBytes
        self.convertingBytes = convertingBytes
        self.residentBytes = residentBytes
        self.residentPrivateBytes = residentPrivateBytes
        self.residentSharedBytes = residentSharedBytes
        self.vcpus = vcpus
        self.keyID = keyID
        self.holderPID = holderPID
        self.mrtd = mrtd
        self.firmware = firmware
        self.createdAt = createdAt
        self.ownerUID = ownerUID
        self.numa = numa
        self.lastWill = lastWill
        self.kind = kind
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        id = try fields.decode(String.self, forKey: .id)
        state = try fields.decode(TrustDomainState.self, forKey: .state)
        reason = try fields.decodeIfPresent(String.self, forKey: .reason)
        backend = try fields.decode(Backend.self, forKey: .backend)
        emulated = try fields.decode(Bool.self, forKey: .emulated)
        memoryBytes = try fields.decode(UInt64.self, forKey: .memoryBytes, in: 0...1 << 52)
        privateBytes = try fields.decode(UInt64.self, forKey: .privateBytes, in: 0...1 << 52)
        sharedBytes = try fields.decode(UInt64.self, forKey: .sharedBytes, in: 0...1 << 52)
        convertingBytes = try fields.decode(UInt64.self, forKey: .convertingBytes, in: 0...1 << 52)
        residentBytes = try fields.decodeIfPresent(UInt64.self, forKey: .residentBytes, in: 0...1 << 52)
        residentPrivateBytes = try fields.decodeIfPresent(UInt64.self, forKey: .residentPrivateBytes, in: 0...1 << 52)
        residentSharedBytes = try fields.decodeIfPresent(UInt64.self, forKey: .residentSharedBytes, in: 0...1 << 52)
        vcpus = try fields.decode(Int.self, forKey: .vcpus, in: 0...1 << 16)
        keyID = try fields.decodeIfPresent(UInt16.self, forKey: .keyID)
        holderPID = try fields.decode(Int32.self, forKey: .holderPID)
        mrtd = try fields.decodeIfPresent(String.self, forKey: .mrtd)
        firmware = try fields.decodeIfPresent(String.self, forKey: .firmware)
        createdAt = try fields.decode(String.self, forKey: .createdAt)
        ownerUID = try fields.decode(UInt32.self, forKey: .ownerUID)
        numa = try fields.decodeIfPresent(NUMAPlacement.self, forKey: .numa)
        lastWill = try fields.decodeIfPresent(LastWillState.self, forKey: .lastWill)
        kind = try fields.decodeIfPresent(HolderKind.self, forKey: .kind)
    }

    enum CodingKeys: String, CodingKey {
        case name
        case id
        case state
        case reason
        case backend
        case emulated
        case memoryBytes = "memory_bytes"
        case privateBytes = "private_bytes"
        case sharedBytes = "shared_bytes"
        case convertingBytes = "converting_bytes"
        case residentBytes = "resident_bytes"
        case residentPrivateBytes = "resident_private_bytes"
        case residentSharedBytes = "resident_shared_bytes"
        case vcpus
        case keyID = "key_id"
        case holderPID = "holder_pid"
        case mrtd
        case firmware
        case createdAt = "created_at"
        case ownerUID = "owner_uid"
        case numa
        case lastWill = "last_will"
        case kind
    }
}

/// A run of guest memory with one attribute.
public struct MemoryRun: Codable, Hashable, Sendable {
    public var gpa: UInt64
    public var bytes: UInt64
    public var attribute: PageAttribute

    public init(gpa: UInt64, bytes: UInt64, attribute: PageAttribute) {
        self.gpa = gpa
        self.bytes = bytes
        self.attribute = attribute
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        gpa = try fields.decode(UInt64.self, forKey: .gpa, in: 0...1 << 52)
        bytes = try fields.decode(UInt64.self, forKey: .bytes, in: 0...1 << 52)
        attribute = try fields.decode(PageAttribute.self, forKey: .attribute)
    }

    enum CodingKeys: String, CodingKey {
        case gpa
        case bytes
        case attribute
    }
}

/// How far work has come.
public struct Progress: Codable, Hashable, Sendable {
    public var phase: String
    public var doneBytes: UInt64
    /// 0 where the end is not known.
    public var totalBytes: UInt64
    public var detail: String?
    /// Over the last seconds; null until it is known.
    public var bytesPerSecond: UInt64?
    /// At that rate; null where rate or total are not known.
    public var etaSeconds: Double?

    public init(
        phase: String, doneBytes: UInt64, totalBytes: UInt64, detail: String? = nil, bytesPerSecond: UInt64? = nil,
        etaSeconds: Double? = nil
    ) {
        self.phase = phase
        self.doneBytes = doneBytes
        self.totalBytes = totalBytes
        self.detail = detail
        self.bytesPerSecond = bytesPerSecond
        self.etaSeconds = etaSeconds
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        phase = try fields.decode(String.self, forKey: .phase)
        doneBytes = try fields.decode(UInt64.self, forKey: .doneBytes, in: 0...1 << 52)
        totalBytes = try fields.decode(UInt64.self, forKey: .totalBytes, in: 0...1 << 52)
        detail = try fields.decodeIfPresent(String.self, forKey: .detail)
        bytesPerSecond = try fields.decodeIfPresent(UInt64.self, forKey: .bytesPerSecond, in: 0...1 << 60)
        etaSeconds = try fields.decodeIfPresent(Double.self, forKey: .etaSeconds)
    }

    enum CodingKeys: String, CodingKey {
        case phase
        case doneBytes = "done_bytes"
        case totalBytes = "total_bytes"
        case detail
        case bytesPerSecond = "bytes_per_second"
        case etaSeconds = "eta_seconds"
    }
}

/// One row of the tree of checks.
public struct HostCheck: Codable, Hashable, Sendable {
    /// Path in the tree of checks, such as "kvm/guest_memfd"
    public var name: String
    public var title: String
    public var result: CheckResult
    /// What was read, and from where.
    public var evidence: String
    /// How to correct it; null for a pass.
    public var hint: String?

    public init(name: String, title: String, result: CheckResult, evidence: String, hint: String? = nil) {
        self.name = name
        self.title = title
        self.result = result
        self.evidence = evidence
        self.hint = hint
    }
}

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

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(EndPhase.self, forKey: .name)
        milliseconds = try fields.decode(Double.self, forKey: .milliseconds)
        bytes = try fields.decode(UInt64.self, forKey: .bytes, in: 0...1 << 52)
        calls = try fields.decode(UInt64.self, forKey: .calls, in: 0...1 << 60)
        detail = try fields.decodeIfPresent(String.self, forKey: .detail)
    }

    enum CodingKeys: String, CodingKey {
        case name
        case milliseconds
        case bytes
        case calls
        case detail
    }
}

/// One statement about the end of a TD, with what was read to make it.
public struct TeardownProof: Codable, Hashable, Sendable {
    public var name: String
    public var holds: Bool
    public var evidence: String
    /// What could not be looked at, so that the proof holds only as far as could be seen; null when nothing was left
    /// out.
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
    /// terminate-first, or dynamic-removal where the kernel has no KVM_TDX_TERMINATE_VM.
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
    /// All that went wrong; null from an older tdxd.
    public var failures: [EndFailure]?
    /// The same in words.
    public var failure: String?
    /// What the TDX module, or its emulation, answered to what failed, in hexadecimal.
    public var tdxStatus: String?
    /// Who rewrites pages that are taken from the TD; never tdxd.
    public var pageReset: String?
    /// What is still to come, such as memory that policy deferred holds back; null when the end is over.
    public var pending: String?

    public init(
        name: String, id: String, backend: Backend, policy: String, path: EndPath, holderDied: Bool, startedAt: String,
        milliseconds: Double, memoryBytes: UInt64, releasedBytes: UInt64, keyID: UInt16? = nil, phases: [TeardownPhase],
        proofs: [TeardownProof], complete: Bool, failures: [EndFailure]? = nil, failure: String? = nil,
        tdxStatus: String? = nil, pageReset: String? = nil, pending: String? = nil
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
        self.complete = complete
        self.failures = failures
        self.failure = failure
        self.tdxStatus = tdxStatus
        self.pageReset = pageReset
        self.pending = pending
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        id = try fields.decode(String.self, forKey: .id)
        backend = try fields.decode(Backend.self, forKey: .backend)
        emulated = try fields.decode(Bool.self, forKey: .emulated)
        policy = try fields.decode(String.self, forKey: .policy)
        path = try fields.decode(EndPath.self, forKey: .path)
        holderDied = try fields.decode(Bool.self, forKey: .holderDied)
        startedAt = try fields.decode(String.self, forKey: .startedAt)
        milliseconds = try fields.decode(Double.self, forKey: .milliseconds)
        memoryBytes = try fields.decode(UInt64.self, forKey: .memoryBytes, in: 0...1 << 52)
        releasedBytes = try fields.decode(UInt64.self, forKey: .releasedBytes, in: 0...1 << 52)
        keyID = try fields.decodeIfPresent(UInt16.self, forKey: .keyID)
        phases = try fields.decode([TeardownPhase].self, forKey: .phases)
        proofs = try fields.decode([TeardownProof].self, forKey: .proofs)
        complete = try fields.decode(Bool.self, forKey: .complete)
        failures = try fields.decodeIfPresent([EndFailure].self, forKey: .failures)
        failure = try fields.decodeIfPresent(String.self, forKey: .failure)
        tdxStatus = try fields.decodeIfPresent(String.self, forKey: .tdxStatus)
        pageReset = try fields.decodeIfPresent(String.self, forKey: .pageReset)
        pending = try fields.decodeIfPresent(String.self, forKey: .pending)
    }

    enum CodingKeys: String, CodingKey {
        case name
        case id
        case backend
        case emulated
        case policy
        case path
        case holderDied = "holder_died"
        case startedAt = "started_at"
        case milliseconds
        case memoryBytes = "memory_bytes"
        case releasedBytes = "released_bytes"
        case keyID = "key_id"
        case phases
        case proofs
        case complete
        case failures
        case failure
        case tdxStatus = "tdx_status"
        case pageReset = "page_reset"
        case pending
    }
}

/// Whether the kernel has KVM_TDX_TERMINATE_VM.
public enum TerminateAnnouncement: String, Codable, Hashable, Sendable, CaseIterable {
    /// The kernel announces it.
    case present
    case absent
    /// Only the call would show it.
    case unknown
}

/// One step of the end of a TD, before it is taken.
public struct PlannedStep: Codable, Hashable, Sendable {
    public var name: String
    public var detail: String
    /// What the step gives back to the host.
    public var bytes: UInt64

    public init(name: String, detail: String, bytes: UInt64 = 0) {
        self.name = name
        self.detail = detail
        self.bytes = bytes
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        detail = try fields.decode(String.self, forKey: .detail)
        bytes = try fields.decode(UInt64.self, forKey: .bytes, in: 0...1 << 52)
    }

    enum CodingKeys: String, CodingKey {
        case name
        case detail
        case bytes
    }
}

/// A certificate in one line; the fields are those of Certificate.
public struct CertificateSummary: Codable, Hashable, Sendable {
    public var name: String
    public var id: String
    public var backend: Backend
    public var emulated: Bool
    public var path: EndPath
    /// Null from a tdxd that does not report it.
    public var policy: String?
    public var holderDied: Bool
    /// RFC 3339, UTC.
    public var startedAt: String
    public var milliseconds: Double
    public var releasedBytes: UInt64
    public var complete: Bool
    public var failure: String?
    public var pending: String?

    public init(
        name: String, id: String, backend: Backend, path: EndPath, policy: String? = nil, holderDied: Bool,
        startedAt: String, milliseconds: Double, releasedBytes: UInt64, complete: Bool, failure: String? = nil,
        pending: String? = nil
    ) {
        self.name = name
        self.id = id
        self.backend = backend
        self.emulated = backend.isEmulated
        self.path = path
        self.policy = policy
        self.holderDied = holderDied
        self.startedAt = startedAt
        self.milliseconds = milliseconds
        self.releasedBytes = releasedBytes
        self.complete = complete
        self.failure = failure
        self.pending = pending
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        id = try fields.decode(String.self, forKey: .id)
        backend = try fields.decode(Backend.self, forKey: .backend)
        emulated = try fields.decode(Bool.self, forKey: .emulated)
        path = try fields.decode(EndPath.self, forKey: .path)
        policy = try fields.decodeIfPresent(String.self, forKey: .policy)
        holderDied = try fields.decode(Bool.self, forKey: .holderDied)
        startedAt = try fields.decode(String.self, forKey: .startedAt)
        milliseconds = try fields.decode(Double.self, forKey: .milliseconds)
        releasedBytes = try fields.decode(UInt64.self, forKey: .releasedBytes, in: 0...1 << 52)
        complete = try fields.decode(Bool.self, forKey: .complete)
        failure = try fields.decodeIfPresent(String.self, forKey: .failure)
        pending = try fields.decodeIfPresent(String.self, forKey: .pending)
    }

    enum CodingKeys: String, CodingKey {
        case name
        case id
        case backend
        case emulated
        case path
        case policy
        case holderDied = "holder_died"
        case startedAt = "started_at"
        case milliseconds
        case releasedBytes = "released_bytes"
        case complete
        case failure
        case pending
    }
}

/// What a key id that is not free is held for.
public enum KeyUse: String, Codable, Hashable, Sendable, CaseIterable {
    /// For a TD that is being built.
    case reserved
    case inUse = "in_use"
    /// The TD has ended for its user; the key id's return is not proven.
    case draining
}

/// A key id that is not free, and whose it is.
public struct KeyHolding: Codable, Hashable, Sendable {
    /// Null where the kernel keeps it to itself (backend tdx).
    public var keyID: UInt16?
    public var use: KeyUse
    /// Whose it is; the name is null when tdxd knows only the id.
    public var name: String?
    public var id: String

    public init(keyID: UInt16? = nil, use: KeyUse, name: String? = nil, id: String) {
        self.keyID = keyID
        self.use = use
        self.name = name
        self.id = id
    }

    enum CodingKeys: String, CodingKey {
        case keyID = "key_id"
        case use
        case name
        case id
    }
}

/// A range of guest memory of which both sides are resident.
public struct DoubleResidency: Codable, Hashable, Sendable {
    public var gpa: UInt64
    public var bytes: UInt64
    /// The side that is not in use.
    public var wasted: MemorySide
    /// Bytes of that side that are resident, by cachestat(2).
    public var wastedBytes: UInt64

    public init(gpa: UInt64, bytes: UInt64, wasted: MemorySide, wastedBytes: UInt64) {
        self.gpa = gpa
        self.bytes = bytes
        self.wasted = wasted
        self.wastedBytes = wastedBytes
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        gpa = try fields.decode(UInt64.self, forKey: .gpa, in: 0...1 << 52)
        bytes = try fields.decode(UInt64.self, forKey: .bytes, in: 0...1 << 52)
        wasted = try fields.decode(MemorySide.self, forKey: .wasted)
        wastedBytes = try fields.decode(UInt64.self, forKey: .wastedBytes, in: 0...1 << 52)
    }

    enum CodingKeys: String, CodingKey {
        case gpa
        case bytes
        case wasted
        case wastedBytes = "wasted_bytes"
    }
}

/// Half of all values are at or below median, nine tenths at or below p90 and so on; within one per cent. 0 without
/// values.
public struct ValueDistribution: Codable, Hashable, Sendable {
    public var median: UInt64
    public var percentile90: UInt64
    public var percentile99: UInt64
    public var maximum: UInt64

    public init(median: UInt64, percentile90: UInt64, percentile99: UInt64, maximum: UInt64) {
        self.median = median
        self.percentile90 = percentile90
        self.percentile99 = percentile99
        self.maximum = maximum
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        median = try fields.decode(UInt64.self, forKey: .median, in: 0...1 << 60)
        percentile90 = try fields.decode(UInt64.self, forKey: .percentile90, in: 0...1 << 60)
        percentile99 = try fields.decode(UInt64.self, forKey: .percentile99, in: 0...1 << 60)
        maximum = try fields.decode(UInt64.self, forKey: .maximum, in: 0...1 << 60)
    }

    enum CodingKeys: String, CodingKey {
        case median
        case percentile90 = "p90"
        case percentile99 = "p99"
        case maximum
    }
}

/// The conversions to one side since the TD was made.
public struct ConversionDirection: Codable, Hashable, Sendable {
    public var to: MemorySide
    public var count: UInt64
    /// Bytes that were on the other side before.
    public var changedBytes: UInt64
    /// Bytes that the side that was left gave back.
    public var discardedBytes: UInt64
    /// Conversions that something refused on the way.
    public var failures: UInt64
    /// Conversions that a Stop or a client ended.
    public var cancelled: UInt64
    /// Requests of the guest that were served together with another.
    public var merged: UInt64
    public var sizeBytes: ValueDistribution
    public var microseconds: ValueDistribution

    public init(
        to: MemorySide, count: UInt64, changedBytes: UInt64, discardedBytes: UInt64, failures: UInt64,
        cancelled: UInt64, merged: UInt64, sizeBytes: ValueDistribution, microseconds: ValueDistribution
    ) {
        self.to = to
        self.count = count
        self.changedBytes = changedBytes
        self.discardedBytes = discardedBytes
        self.failures = failures
        self.cancelled = cancelled
        self.merged = merged
        self.sizeBytes = sizeBytes
        self.microseconds = microseconds
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        to = try fields.decode(MemorySide.self, forKey: .to)
        count = try fields.decode(UInt64.self, forKey: .count, in: 0...1 << 60)
        changedBytes = try fields.decode(UInt64.self, forKey: .changedBytes, in: 0...1 << 60)
        discardedBytes = try fields.decode(UInt64.self, forKey: .discardedBytes, in: 0...1 << 60)
        failures = try fields.decode(UInt64.self, forKey: .failures, in: 0...1 << 60)
        cancelled = try fields.decode(UInt64.self, forKey: .cancelled, in: 0...1 << 60)
        merged = try fields.decode(UInt64.self, forKey: .merged, in: 0...1 << 60)
        sizeBytes = try fields.decode(ValueDistribution.self, forKey: .sizeBytes)
        microseconds = try fields.decode(ValueDistribution.self, forKey: .microseconds)
    }

    enum CodingKeys: String, CodingKey {
        case to
        case count
        case changedBytes = "changed_bytes"
        case discardedBytes = "discarded_bytes"
        case failures
        case cancelled
        case merged
        case sizeBytes = "size_bytes"
        case microseconds
    }
}

/// A block of guest memory that is converted often.
public struct ConversionHotBlock: Codable, Hashable, Sendable {
    public var gpa: UInt64
    public var bytes: UInt64
    /// How many conversions began in it.
    public var conversions: UInt64

    public init(gpa: UInt64, bytes: UInt64, conversions: UInt64) {
        self.gpa = gpa
        self.bytes = bytes
        self.conversions = conversions
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        gpa = try fields.decode(UInt64.self, forKey: .gpa, in: 0...1 << 52)
        bytes = try fields.decode(UInt64.self, forKey: .bytes, in: 0...1 << 52)
        conversions = try fields.decode(UInt64.self, forKey: .conversions)
    }

    enum CodingKeys: String, CodingKey {
        case gpa
        case bytes
        case conversions
    }
}

/// A storm is more than "conversions" in one window.
public struct ConversionStorm: Codable, Hashable, Sendable {
    public var conversions: Int
    public var windowMilliseconds: Int64
    /// How many have begun since the TD was made.
    public var storms: UInt64
    /// The current storm's start: RFC 3339, UTC; null without one.
    public var since: String?

    public init(conversions: Int, windowMilliseconds: Int64, storms: UInt64, since: String? = nil) {
        self.conversions = conversions
        self.windowMilliseconds = windowMilliseconds
        self.storms = storms
        self.since = since
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        conversions = try fields.decode(Int.self, forKey: .conversions, in: 0...1 << 60)
        windowMilliseconds = try fields.decode(Int64.self, forKey: .windowMilliseconds)
        storms = try fields.decode(UInt64.self, forKey: .storms, in: 0...1 << 60)
        since = try fields.decodeIfPresent(String.self, forKey: .since)
    }

    enum CodingKeys: String, CodingKey {
        case conversions
        case windowMilliseconds = "window_ms"
        case storms
        case since
    }
}

/// One conversion as it went.
public struct ConversionAccount: Codable, Hashable, Sendable {
    /// Counted from 1 since the TD was made.
    public var number: UInt64
    /// RFC 3339, UTC.
    public var endedAt: String
    public var gpa: UInt64
    public var bytes: UInt64
    public var to: MemorySide
    public var origin: ConversionAccount.Origin
    /// Requests that were served together.
    public var requests: Int
    public var changedBytes: UInt64
    public var discardedBytes: UInt64
    public var microseconds: UInt64
    public var outcome: ConversionAccount.Outcome
    /// How far into the range it came.
    public var doneBytes: UInt64
    /// For outcomes cancelled and failed.
    public var reason: String?

    public init(
        number: UInt64, endedAt: String, gpa: UInt64, bytes: UInt64, to: MemorySide, origin: ConversionAccount.Origin,
        requests: Int, changedBytes: UInt64, discardedBytes: UInt64, microseconds: UInt64,
        outcome: ConversionAccount.Outcome, doneBytes: UInt64, reason: String? = nil
    ) {
        self.number = number
        self.endedAt = endedAt
        self.gpa = gpa
        self.bytes = bytes
        self.to = to
        self.origin = origin
        self.requests = requests
        self.changedBytes = changedBytes
        self.discardedBytes = discardedBytes
        self.microseconds = microseconds
        self.outcome = outcome
        self.doneBytes = doneBytes
        self.reason = reason
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        number = try fields.decode(UInt64.self, forKey: .number, in: 0...1 << 60)
        endedAt = try fields.decode(String.self, forKey: .endedAt)
        gpa = try fields.decode(UInt64.self, forKey: .gpa, in: 0...1 << 52)
        bytes = try fields.decode(UInt64.self, forKey: .bytes, in: 0...1 << 52)
        to = try fields.decode(MemorySide.self, forKey: .to)
        origin = try fields.decode(ConversionAccount.Origin.self, forKey: .origin)
        requests = try fields.decode(Int.self, forKey: .requests, in: 0...1 << 60)
        changedBytes = try fields.decode(UInt64.self, forKey: .changedBytes, in: 0...1 << 60)
        discardedBytes = try fields.decode(UInt64.self, forKey: .discardedBytes, in: 0...1 << 60)
        microseconds = try fields.decode(UInt64.self, forKey: .microseconds, in: 0...1 << 60)
        outcome = try fields.decode(ConversionAccount.Outcome.self, forKey: .outcome)
        doneBytes = try fields.decode(UInt64.self, forKey: .doneBytes, in: 0...1 << 52)
        reason = try fields.decodeIfPresent(String.self, forKey: .reason)
    }

    enum CodingKeys: String, CodingKey {
        case number
        case endedAt = "ended_at"
        case gpa
        case bytes
        case to
        case origin
        case requests
        case changedBytes = "changed_bytes"
        case discardedBytes = "discarded_bytes"
        case microseconds
        case outcome
        case doneBytes = "done_bytes"
        case reason
    }
}

/// What a host is emptied for.
public enum DrainPurpose: String, Codable, Hashable, Sendable, CaseIterable {
    case kexec
    case shutdown
    /// Of the TDX module, which TDs survive unless one is being built.
    case moduleUpdate = "module_update"
    case maintenance
}

/// Whether the host is being emptied, and how far that has come.
public struct DrainStatus: Codable, Hashable, Sendable {
    public var backend: Backend
    public var emulated: Bool
    /// Null when the host is not being emptied.
    public var purpose: DrainPurpose?
    /// RFC 3339, UTC; null when the host is not being emptied.
    public var since: String?
    /// There are no blockers.
    public var ready: Bool
    public var building: Int
    public var running: Int
    /// Stopping, or stopped and not proven back.
    public var ending: Int
    /// Of all TDs, by their attribute maps; all memory of a TD whose holder does not answer.
    public var privateBytes: UInt64
    /// As private_bytes.
    public var convertingBytes: UInt64
    public var keysTaken: Int
    /// What prevents the purpose, each in words.
    public var blockers: [String]
    /// The ends since it began, the latest first.
    public var ended: [CertificateSummary]

    public init(
        backend: Backend, purpose: DrainPurpose? = nil, since: String? = nil, ready: Bool, building: Int, running: Int,
        ending: Int, privateBytes: UInt64, convertingBytes: UInt64, keysTaken: Int, blockers: [String],
        ended: [CertificateSummary]
    ) {
        self.backend = backend
        self.emulated = backend.isEmulated
        self.purpose = purpose
        self.since = since
        self.ready = ready
        self.building = building
        self.running = running
        self.ending = ending
        self.privateBytes = privateBytes
        self.convertingBytes = convertingBytes
        self.keysTaken = keysTaken
        self.blockers = blockers
        self.ended = ended
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        backend = try fields.decode(Backend.self, forKey: .backend)
        emulated = try fields.decode(Bool.self, forKey: .emulated)
        purpose = try fields.decodeIfPresent(DrainPurpose.self, forKey: .purpose)
        since = try fields.decodeIfPresent(String.self, forKey: .since)
        ready = try fields.decode(Bool.self, forKey: .ready)
        building = try fields.decode(Int.self, forKey: .building, in: 0...1 << 30)
        running = try fields.decode(Int.self, forKey: .running, in: 0...1 << 30)
        ending = try fields.decode(Int.self, forKey: .ending, in: 0...1 << 30)
        privateBytes = try fields.decode(UInt64.self, forKey: .privateBytes, in: 0...1 << 52)
        convertingBytes = try fields.decode(UInt64.self, forKey: .convertingBytes, in: 0...1 << 52)
        keysTaken = try fields.decode(Int.self, forKey: .keysTaken, in: 0...1 << 30)
        blockers = try fields.decode([String].self, forKey: .blockers)
        ended = try fields.decode([CertificateSummary].self, forKey: .ended)
    }

    enum CodingKeys: String, CodingKey {
        case backend
        case emulated
        case purpose
        case since
        case ready
        case building
        case running
        case ending
        case privateBytes = "private_bytes"
        case convertingBytes = "converting_bytes"
        case keysTaken = "keys_taken"
        case blockers
        case ended
    }
}

/// One of the known answers to kexec.
public struct KexecAnswer: Codable, Hashable, Sendable {
    public var name: String
    /// Null where another kernel decides.
    public var allows: Bool?
    public var reason: String

    public init(name: String, allows: Bool? = nil, reason: String) {
        self.name = name
        self.allows = allows
        self.reason = reason
    }
}

/// What is known of one TD's private memory.
public struct InventoryDomain: Codable, Hashable, Sendable {
    public var name: String
    public var id: String
    public var state: TrustDomainState
    public var backend: Backend
    public var emulated: Bool
    /// map: from its attribute map. whole: all its memory, because how much of it is private is not known: it is being
    /// built, its holder is dead or does not answer, or it has ended and its memory is not proven back.
    public var source: InventorySource
    /// Why it is counted whole, or why ranges that were asked for are not there.
    public var reason: String?
    public var memoryBytes: UInt64
    public var privateBytes: UInt64
    /// In transition in either direction.
    public var convertingBytes: UInt64
    /// The last change of the map (as in MapChanges) that the figures and the ranges contain; null without ranges.
    public var sequence: Int64?
    /// How many ranges are listed; null without.
    public var ranges: Int?

    public init(
        name: String, id: String, state: TrustDomainState, backend: Backend, source: InventorySource,
        reason: String? = nil, memoryBytes: UInt64, privateBytes: UInt64, convertingBytes: UInt64,
        sequence: Int64? = nil, ranges: Int? = nil
    ) {
        self.name = name
        self.id = id
        self.state = state
        self.backend = backend
        self.emulated = backend.isEmulated
        self.source = source
        self.reason = reason
        self.memoryBytes = memoryBytes
        self.privateBytes = privateBytes
        self.convertingBytes = convertingBytes
        self.sequence = sequence
        self.ranges = ranges
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        id = try fields.decode(String.self, forKey: .id)
        state = try fields.decode(TrustDomainState.self, forKey: .state)
        backend = try fields.decode(Backend.self, forKey: .backend)
        emulated = try fields.decode(Bool.self, forKey: .emulated)
        source = try fields.decode(InventorySource.self, forKey: .source)
        reason = try fields.decodeIfPresent(String.self, forKey: .reason)
        memoryBytes = try fields.decode(UInt64.self, forKey: .memoryBytes, in: 0...1 << 52)
        privateBytes = try fields.decode(UInt64.self, forKey: .privateBytes, in: 0...1 << 52)
        convertingBytes = try fields.decode(UInt64.self, forKey: .convertingBytes, in: 0...1 << 52)
        sequence = try fields.decodeIfPresent(Int64.self, forKey: .sequence, in: 0...1 << 62)
        ranges = try fields.decodeIfPresent(Int.self, forKey: .ranges, in: 0...1 << 52)
    }

    enum CodingKeys: String, CodingKey {
        case name
        case id
        case state
        case backend
        case emulated
        case source
        case reason
        case memoryBytes = "memory_bytes"
        case privateBytes = "private_bytes"
        case convertingBytes = "converting_bytes"
        case sequence
        case ranges
    }
}

/// Ranges of one TD that are private or in transition, in ascending order.
public struct InventoryRanges: Codable, Hashable, Sendable {
    public var id: String
    public var runs: [MemoryRun]
    /// Why no further range of it follows although more were announced (it ended meanwhile).
    public var cut: String?

    public init(id: String, runs: [MemoryRun], cut: String? = nil) {
        self.id = id
        self.runs = runs
        self.cut = cut
    }
}

/// Sums over all TDs that were listed.
public struct InventoryTotal: Codable, Hashable, Sendable {
    public var backend: Backend
    public var emulated: Bool
    public var domains: Int
    /// Those that are counted whole.
    public var wholeDomains: Int
    /// Those whose ranges were asked for and are not there.
    public var withoutRanges: Int
    public var memoryBytes: UInt64
    public var privateBytes: UInt64
    public var convertingBytes: UInt64
    public var ranges: Int

    public init(
        backend: Backend, domains: Int, wholeDomains: Int, withoutRanges: Int, memoryBytes: UInt64,
        privateBytes: UInt64, convertingBytes: UInt64, ranges: Int
    ) {
        self.backend = backend
        self.emulated = backend.isEmulated
        self.domains = domains
        self.wholeDomains = wholeDomains
        self.withoutRanges = withoutRanges
        self.memoryBytes = memoryBytes
        self.privateBytes = privateBytes
        self.convertingBytes = convertingBytes
        self.ranges = ranges
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        backend = try fields.decode(Backend.self, forKey: .backend)
        emulated = try fields.decode(Bool.self, forKey: .emulated)
        domains = try fields.decode(Int.self, forKey: .domains, in: 0...1 << 30)
        wholeDomains = try fields.decode(Int.self, forKey: .wholeDomains, in: 0...1 << 30)
        withoutRanges = try fields.decode(Int.self, forKey: .withoutRanges, in: 0...1 << 30)
        memoryBytes = try fields.decode(UInt64.self, forKey: .memoryBytes)
        privateBytes = try fields.decode(UInt64.self, forKey: .privateBytes)
        convertingBytes = try fields.decode(UInt64.self, forKey: .convertingBytes)
        ranges = try fields.decode(Int.self, forKey: .ranges, in: 0...1 << 52)
    }

    enum CodingKeys: String, CodingKey {
        case backend
        case emulated
        case domains
        case wholeDomains = "whole_domains"
        case withoutRanges = "without_ranges"
        case memoryBytes = "memory_bytes"
        case privateBytes = "private_bytes"
        case convertingBytes = "converting_bytes"
        case ranges
    }
}

/// One step of the self-test.
public struct SelfTestStep: Codable, Hashable, Sendable {
    public var name: String
    public var result: CheckResult
    public var evidence: String
    public var milliseconds: Double

    public init(name: String, result: CheckResult, evidence: String, milliseconds: Double) {
        self.name = name
        self.result = result
        self.evidence = evidence
        self.milliseconds = milliseconds
    }
}

/// What `Create` asks for.
public struct CreateRequest: Codable, Hashable, Sendable {
    /// 1 to 64 of a-z 0-9 . _ -, the first of them a letter or digit.
    public var name: NewTrustDomainName
    /// Whole pages, up to 2^51.
    public var memoryBytes: MemorySize
    /// 1 to 1024.
    public var vcpus: VCPUCount
    /// Absolute path of a TDVF image, which tdxd opens if the caller may read it; null for empty private memory.
    public var firmware: FirmwarePath?
    /// 96 hexadecimal digits.
    public var mrconfigid: Digest48?
    /// 96 hexadecimal digits.
    public var mrowner: Digest48?
    /// 96 hexadecimal digits.
    public var mrownerconfig: Digest48?
    /// All private memory is allocated before the TD is there; a client that leaves meanwhile takes it all back.
    public var preallocate: Bool?
    /// How long to wait for memory, a key id, a place under the limit of TDs, or disk (1 to 604800000); null refuses at
    /// once. Creations that wait are served in their order; one that does not wait takes what is free at its moment.
    public var waitMilliseconds: CreationWait?
    /// Null for wherever the allocating thread runs. Where the kernel cannot do it the TD is made all the same, and
    /// numa of the domain gives the reason.
    public var numa: NUMAPolicy?
    /// All private memory is mapped into the TD's page table, too, so that its guest meets no fault at a first touch; a
    /// client that leaves meanwhile takes it all back. Where the kernel cannot (KVM_CAP_PRE_FAULT_MEMORY is 0) the
    /// answer is KernelRefused for KVM_PRE_FAULT_MEMORY with EOPNOTSUPP, before any memory is allocated. With
    /// preallocate, memory is allocated in parallel first.
    public var prefault: Bool?

    public init(
        name: NewTrustDomainName, memoryBytes: MemorySize, vcpus: VCPUCount, firmware: FirmwarePath? = nil,
        mrconfigid: Digest48? = nil, mrowner: Digest48? = nil, mrownerconfig: Digest48? = nil, preallocate: Bool? = nil,
        waitMilliseconds: CreationWait? = nil, numa: NUMAPolicy? = nil, prefault: Bool? = nil
    ) {
        self.name = name
        self.memoryBytes = memoryBytes
        self.vcpus = vcpus
        self.firmware = firmware
        self.mrconfigid = mrconfigid
        self.mrowner = mrowner
        self.mrownerconfig = mrownerconfig
        self.preallocate = preallocate
        self.waitMilliseconds = waitMilliseconds
        self.numa = numa
        self.prefault = prefault
    }

    enum CodingKeys: String, CodingKey {
        case name
        case memoryBytes = "memory_bytes"
        case vcpus
        case firmware
        case mrconfigid
        case mrowner
        case mrownerconfig
        case preallocate
        case waitMilliseconds = "wait_ms"
        case numa
        case prefault
    }
}

public struct HostReport: Codable, Hashable, Sendable {
    public var backend: Backend
    public var emulated: Bool
    public var reason: String
    public var checks: [HostCheck]

    public init(backend: Backend, reason: String, checks: [HostCheck]) {
        self.backend = backend
        self.emulated = backend.isEmulated
        self.reason = reason
        self.checks = checks
    }
}

public struct StatusReply: Codable, Hashable, Sendable {
    public var status: DrainStatus

    public init(status: DrainStatus) {
        self.status = status
    }
}

/// The methods of `io.tdxd.Manager`.
///
/// The control interface of tdxd: the trust domains (TDs) of one host, from creation to proof of their end. Memory
/// sizes and guest-physical addresses are bytes. Milliseconds are measured with the monotonic clock.
///
/// Lines that begin with @ are for scripts/generate-interfaces, which writes tdxd's Swift types from this file;
/// docs/control-interface.md describes them. The numbers of a field of these names, wherever it appears:
public enum ManagerInterface {
    public static let name = "io.tdxd.Manager"

    /// The methods by name, in the order of the interface. The raw values are those on the wire.
    public enum Method: String, Hashable, Sendable, CaseIterable {
        case check = "Check"
        case create = "Create"
        case attach = "Attach"
        case list = "List"
        case show = "Show"
        case convert = "Convert"
        case map = "Map"
        case mapChanges = "MapChanges"
        case conversions = "Conversions"
        case stop = "Stop"
        case reclaim = "Reclaim"
        case planStop = "PlanStop"
        case listCertificates = "ListCertificates"
        case getCertificate = "GetCertificate"
        case getKeys = "GetKeys"
        case verify = "Verify"
        case drain = "Drain"
        case getDrain = "GetDrain"
        case undrain = "Undrain"
        case checkKexec = "CheckKexec"
        case inventory = "Inventory"
        case selfTest = "SelfTest"

        /// What the method takes and returns.
        public var type: any ControlMethod.Type {
            switch self {
            case .check: ManagerInterface.Check.self
            case .create: ManagerInterface.Create.self
            case .attach: ManagerInterface.Attach.self
            case .list: ManagerInterface.List.self
            case .show: ManagerInterface.Show.self
            case .convert: ManagerInterface.Convert.self
            case .map: ManagerInterface.Map.self
            case .mapChanges: ManagerInterface.MapChanges.self
            case .conversions: ManagerInterface.Conversions.self
            case .stop: ManagerInterface.Stop.self
            case .reclaim: ManagerInterface.Reclaim.self
            case .planStop: ManagerInterface.PlanStop.self
            case .listCertificates: ManagerInterface.ListCertificates.self
            case .getCertificate: ManagerInterface.GetCertificate.self
            case .getKeys: ManagerInterface.GetKeys.self
            case .verify: ManagerInterface.Verify.self
            case .drain: ManagerInterface.Drain.self
            case .getDrain: ManagerInterface.GetDrain.self
            case .undrain: ManagerInterface.Undrain.self
            case .checkKexec: ManagerInterface.CheckKexec.self
            case .inventory: ManagerInterface.Inventory.self
            case .selfTest: ManagerInterface.SelfTest.self
            }
        }
    }

    /// Checks what this host offers. Changes nothing.
    public enum Check: ControlMethod {
        public static let method = "io.tdxd.Manager.Check"
        public static let streams = false
        public typealias Parameters = NoParameters
        public typealias Reply = ControlInterface.HostReport
    }

    /// Creates, loads and finalizes a TD. With "more", progress comes first and the domain in the last reply. The
    /// image's descriptor, open for reading, may come with the call: tdxd need not be able to reach the path then.
    /// firmware_directories of the configuration hold for both.
    public enum Create: ControlMethod {
        public static let method = "io.tdxd.Manager.Create"
        public static let streams = true
        public typealias Parameters = ControlInterface.CreateRequest

        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var domain: TrustDomain?

            public init(progress: Progress? = nil, domain: TrustDomain? = nil) {
                self.progress = progress
                self.domain = domain
            }
        }
    }

    /// A process that owns a TD's VM itself, such as a VMM, puts its TD under tdxd's care. Descriptors: one end each of
    /// 1 to 8 socket pairs that the caller has made (socketpair(2), AF_UNIX, SOCK_STREAM); at the other ends it serves
    /// io.tdxd.Holder, for as long as the TD lives. tdxd makes one call at a time on each. Without id the TD is
    /// admitted as by Create, with the same refusals, and is in state building; its process makes it with the id and
    /// the key id that come back. With id, of the same process, the descriptors are taken in addition: to say that the
    /// TD is made, after a restart of tdxd, and wherever a connection was lost. The TD becomes runnable when Describe
    /// says that it is. tdxd sends the process no signal. Convert and Verify with reclaim are refused: the process owns
    /// the map. A Stop that the process refuses or does not answer changes nothing. The caller needs the role operate
    /// and becomes the TD's owner.
    public enum Attach: ControlMethod {
        public static let method = "io.tdxd.Manager.Attach"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: NewTrustDomainName
            public var memoryBytes: MemorySize
            public var vcpus: VCPUCount
            /// Of a TD that the caller has attached before; null for a new one.
            public var id: String?

            public init(name: NewTrustDomainName, memoryBytes: MemorySize, vcpus: VCPUCount, id: String? = nil) {
                self.name = name
                self.memoryBytes = memoryBytes
                self.vcpus = vcpus
                self.id = id
            }

            enum CodingKeys: String, CodingKey {
                case name
                case memoryBytes = "memory_bytes"
                case vcpus
                case id
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var id: String
            /// Reserved for the TD; on hardware the kernel has its own.
            public var keyID: UInt16
            public var state: TrustDomainState

            public init(id: String, keyID: UInt16, state: TrustDomainState) {
                self.id = id
                self.keyID = keyID
                self.state = state
            }

            enum CodingKeys: String, CodingKey {
                case id
                case keyID = "key_id"
                case state
            }
        }
    }

    public enum List: ControlMethod {
        public static let method = "io.tdxd.Manager.List"
        public static let streams = false
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            public var domains: [TrustDomain]

            public init(domains: [TrustDomain]) {
                self.domains = domains
            }
        }
    }

    public enum Show: ControlMethod {
        public static let method = "io.tdxd.Manager.Show"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName

            public init(name: TrustDomainName) {
                self.name = name
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var domain: TrustDomain

            public init(domain: TrustDomain) {
                self.domain = domain
            }
        }
    }

    /// Converts a range, in chunks of 64 MiB. On failure the error gives the prefix that is done; nothing is left in
    /// between. With "more" there is a reply with progress, and the figures so far, now and then; a caller that leaves
    /// ends the conversion between two chunks. Without, it goes on to its end.
    public enum Convert: ControlMethod {
        public static let method = "io.tdxd.Manager.Convert"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName
            public var gpa: PageAddress
            public var bytes: PageSpan
            public var to: MemorySide

            public init(name: TrustDomainName, gpa: PageAddress, bytes: PageSpan, to: MemorySide) {
                self.name = name
                self.gpa = gpa
                self.bytes = bytes
                self.to = to
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            public var gpa: UInt64
            public var bytes: UInt64
            public var to: MemorySide
            /// What was on the other side before.
            public var changedBytes: UInt64
            /// What the side that was left gave back.
            public var discardedBytes: UInt64
            public var milliseconds: Double
            /// In every reply but the last, whose figures are those so far.
            public var progress: Progress?

            public init(
                name: String, backend: Backend, gpa: UInt64, bytes: UInt64, to: MemorySide, changedBytes: UInt64,
                discardedBytes: UInt64, milliseconds: Double, progress: Progress? = nil
            ) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.gpa = gpa
                self.bytes = bytes
                self.to = to
                self.changedBytes = changedBytes
                self.discardedBytes = discardedBytes
                self.milliseconds = milliseconds
                self.progress = progress
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                name = try fields.decode(String.self, forKey: .name)
                backend = try fields.decode(Backend.self, forKey: .backend)
                emulated = try fields.decode(Bool.self, forKey: .emulated)
                gpa = try fields.decode(UInt64.self, forKey: .gpa, in: 0...1 << 52)
                bytes = try fields.decode(UInt64.self, forKey: .bytes, in: 0...1 << 52)
                to = try fields.decode(MemorySide.self, forKey: .to)
                changedBytes = try fields.decode(UInt64.self, forKey: .changedBytes, in: 0...1 << 60)
                discardedBytes = try fields.decode(UInt64.self, forKey: .discardedBytes, in: 0...1 << 60)
                milliseconds = try fields.decode(Double.self, forKey: .milliseconds)
                progress = try fields.decodeIfPresent(Progress.self, forKey: .progress)
            }

            enum CodingKeys: String, CodingKey {
                case name
                case backend
                case emulated
                case gpa
                case bytes
                case to
                case changedBytes = "changed_bytes"
                case discardedBytes = "discarded_bytes"
                case milliseconds
                case progress
            }
        }
    }

    public enum Map: ControlMethod {
        public static let method = "io.tdxd.Manager.Map"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName

            public init(name: TrustDomainName) {
                self.name = name
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            public var runs: [MemoryRun]

            public init(name: String, backend: Backend, runs: [MemoryRun]) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.runs = runs
            }
        }
    }

    /// Follows the map, one answer a call: a client that reads slowly gets more at a time, and nothing is kept for it.
    /// The answer comes with the first change after since, or without any after wait_ms. An answer may end before the
    /// last change; the next one goes on.
    public enum MapChanges: ControlMethod {
        public static let method = "io.tdxd.Manager.MapChanges"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName
            /// The sequence of the answer before; null for the whole map now.
            public var since: ChangeNumber?
            /// 0 to 60000; null for 10000.
            public var waitMilliseconds: ChangeWait?

            public init(name: TrustDomainName, since: ChangeNumber? = nil, waitMilliseconds: ChangeWait? = nil) {
                self.name = name
                self.since = since
                self.waitMilliseconds = waitMilliseconds
            }

            enum CodingKeys: String, CodingKey {
                case name
                case since
                case waitMilliseconds = "wait_ms"
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            /// Of the last change in runs.
            public var sequence: Int64
            /// Runs is the whole map as of sequence, because since was null or too old; otherwise runs is what was set
            /// after since, to be applied in this order.
            public var snapshot: Bool
            public var runs: [MemoryRun]

            public init(name: String, backend: Backend, sequence: Int64, snapshot: Bool, runs: [MemoryRun]) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.sequence = sequence
                self.snapshot = snapshot
                self.runs = runs
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                name = try fields.decode(String.self, forKey: .name)
                backend = try fields.decode(Backend.self, forKey: .backend)
                emulated = try fields.decode(Bool.self, forKey: .emulated)
                sequence = try fields.decode(Int64.self, forKey: .sequence, in: 0...1 << 62)
                snapshot = try fields.decode(Bool.self, forKey: .snapshot)
                runs = try fields.decode([MemoryRun].self, forKey: .runs)
            }

            enum CodingKeys: String, CodingKey {
                case name
                case backend
                case emulated
                case sequence
                case snapshot
                case runs
            }
        }
    }

    /// How conversions went since the TD was made.
    public enum Conversions: ControlMethod {
        public static let method = "io.tdxd.Manager.Conversions"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName
            /// How many single conversions are listed: 0 to 1000; null for 20.
            public var last: ConversionCount?

            public init(name: TrustDomainName, last: ConversionCount? = nil) {
                self.name = name
                self.last = last
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            /// To private, to shared.
            public var directions: [ConversionDirection]
            /// The blocks converted most often, 64 at most, the hottest first.
            public var hottest: [ConversionHotBlock]
            public var storm: ConversionStorm
            /// The last of them one by one, oldest first.
            public var conversions: [ConversionAccount]

            public init(
                name: String, backend: Backend, directions: [ConversionDirection], hottest: [ConversionHotBlock],
                storm: ConversionStorm, conversions: [ConversionAccount]
            ) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.directions = directions
                self.hottest = hottest
                self.storm = storm
                self.conversions = conversions
            }
        }
    }

    /// Ends a TD: quiesce, terminate, release, close, prove. With "more", progress comes first.
    public enum Stop: ControlMethod {
        public static let method = "io.tdxd.Manager.Stop"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName
            /// Auto (terminate first where the kernel can), terminate-first (refuse where it does not announce that it
            /// can), dynamic-removal (every private page is removed from the living TD) or deferred (as auto, but its
            /// memory comes back only by Reclaim, or at bytes_per_second where that is given); null for the configured
            /// one.
            public var policy: StopPolicy?
            /// What is given back at most, 1 MiB to 1 TiB; null for the configured pace.
            public var bytesPerSecond: ReleaseRate?
            /// What one punch gives back, 2 MiB to 64 MiB, a multiple of 2 MiB; null for the configured one.
            public var chunkBytes: ReleaseChunk?
            /// When the answer comes at the latest, 1 s to 7 days: what is not done by then goes on, and the
            /// certificate names it (pending). null: proofs are repeated for the configured time, and the rest takes
            /// what it takes.
            public var deadlineMilliseconds: EndDeadline?
            /// Proven (the answer comes when the end is proven) or stopped (when the TD runs no more; its memory
            /// follows); null for the configured one. Policy deferred without a pace is answered when the TD runs no
            /// more.
            public var wait: StopWait?

            public init(
                name: TrustDomainName, policy: StopPolicy? = nil, bytesPerSecond: ReleaseRate? = nil,
                chunkBytes: ReleaseChunk? = nil, deadlineMilliseconds: EndDeadline? = nil, wait: StopWait? = nil
            ) {
                self.name = name
                self.policy = policy
                self.bytesPerSecond = bytesPerSecond
                self.chunkBytes = chunkBytes
                self.deadlineMilliseconds = deadlineMilliseconds
                self.wait = wait
            }

            enum CodingKeys: String, CodingKey {
                case name
                case policy
                case bytesPerSecond = "bytes_per_second"
                case chunkBytes = "chunk_bytes"
                case deadlineMilliseconds = "deadline_ms"
                case wait
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var certificate: TeardownCertificate?

            public init(progress: Progress? = nil, certificate: TeardownCertificate? = nil) {
                self.progress = progress
                self.certificate = certificate
            }
        }
    }

    /// Gives the memory of a stopped TD back that policy deferred holds, or that is being given back at a pace, which
    /// is changed. Answers when the end is proven.
    public enum Reclaim: ControlMethod {
        public static let method = "io.tdxd.Manager.Reclaim"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName
            /// 1 MiB to 1 TiB; null for as fast as it goes.
            public var bytesPerSecond: ReleaseRate?
            /// As for Stop.
            public var chunkBytes: ReleaseChunk?

            public init(name: TrustDomainName, bytesPerSecond: ReleaseRate? = nil, chunkBytes: ReleaseChunk? = nil) {
                self.name = name
                self.bytesPerSecond = bytesPerSecond
                self.chunkBytes = chunkBytes
            }

            enum CodingKeys: String, CodingKey {
                case name
                case bytesPerSecond = "bytes_per_second"
                case chunkBytes = "chunk_bytes"
            }
        }
        public typealias Reply = Stop.Reply
    }

    /// What Stop would do now. Changes nothing; refuses what Stop would refuse.
    public enum PlanStop: ControlMethod {
        public static let method = "io.tdxd.Manager.PlanStop"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName
            /// As for Stop; null for the configured one.
            public var policy: StopPolicy?

            public init(name: TrustDomainName, policy: StopPolicy? = nil) {
                self.name = name
                self.policy = policy
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            public var policy: String
            /// terminate-first or dynamic-removal.
            public var path: EndPath
            public var terminate: TerminateAnnouncement
            public var vcpus: Int
            public var memoryBytes: UInt64
            /// Null where not every backing file could be counted.
            public var residentPrivateBytes: UInt64?
            /// Null where not every backing file could be counted.
            public var residentSharedBytes: UInt64?
            /// In the order in which they are taken.
            public var steps: [PlannedStep]
            /// What happens when the holder is killed instead; as in TrustDomain.
            public var lastWill: LastWillState?
            /// Who rewrites pages that are taken from the TD; never tdxd.
            public var pageReset: String?
            /// Whether the CPU has the partial-write erratum; null where that is not known.
            public var erratum: Bool?

            public init(
                name: String, backend: Backend, policy: String, path: EndPath, terminate: TerminateAnnouncement,
                vcpus: Int, memoryBytes: UInt64, residentPrivateBytes: UInt64? = nil,
                residentSharedBytes: UInt64? = nil, steps: [PlannedStep], lastWill: LastWillState? = nil,
                pageReset: String? = nil, erratum: Bool? = nil
            ) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.policy = policy
                self.path = path
                self.terminate = terminate
                self.vcpus = vcpus
                self.memoryBytes = memoryBytes
                self.residentPrivateBytes = residentPrivateBytes
                self.residentSharedBytes = residentSharedBytes
                self.steps = steps
                self.lastWill = lastWill
                self.pageReset = pageReset
                self.erratum = erratum
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                name = try fields.decode(String.self, forKey: .name)
                backend = try fields.decode(Backend.self, forKey: .backend)
                emulated = try fields.decode(Bool.self, forKey: .emulated)
                policy = try fields.decode(String.self, forKey: .policy)
                path = try fields.decode(EndPath.self, forKey: .path)
                terminate = try fields.decode(TerminateAnnouncement.self, forKey: .terminate)
                vcpus = try fields.decode(Int.self, forKey: .vcpus, in: 0...1 << 16)
                memoryBytes = try fields.decode(UInt64.self, forKey: .memoryBytes, in: 0...1 << 52)
                residentPrivateBytes = try fields.decodeIfPresent(
                    UInt64.self, forKey: .residentPrivateBytes, in: 0...1 << 52)
                residentSharedBytes = try fields.decodeIfPresent(
                    UInt64.self, forKey: .residentSharedBytes, in: 0...1 << 52)
                steps = try fields.decode([PlannedStep].self, forKey: .steps)
                lastWill = try fields.decodeIfPresent(LastWillState.self, forKey: .lastWill)
                pageReset = try fields.decodeIfPresent(String.self, forKey: .pageReset)
                erratum = try fields.decodeIfPresent(Bool.self, forKey: .erratum)
            }

            enum CodingKeys: String, CodingKey {
                case name
                case backend
                case emulated
                case policy
                case path
                case terminate
                case vcpus
                case memoryBytes = "memory_bytes"
                case residentPrivateBytes = "resident_private_bytes"
                case residentSharedBytes = "resident_shared_bytes"
                case steps
                case lastWill = "last_will"
                case pageReset = "page_reset"
                case erratum
            }
        }
    }

    /// The certificates that are kept, the latest first.
    public enum ListCertificates: ControlMethod {
        public static let method = "io.tdxd.Manager.ListCertificates"
        public static let streams = false
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            public var certificates: [CertificateSummary]

            public init(certificates: [CertificateSummary]) {
                self.certificates = certificates
            }
        }
    }

    public enum GetCertificate: ControlMethod {
        public static let method = "io.tdxd.Manager.GetCertificate"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            /// A TD's id or name; of several of one name the latest.
            public var certificate: TrustDomainName

            public init(certificate: TrustDomainName) {
                self.certificate = certificate
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var certificate: TeardownCertificate

            public init(certificate: TeardownCertificate) {
                self.certificate = certificate
            }
        }
    }

    /// The pool of key ids and who holds which. emulated: the ids are the software module's own.
    public enum GetKeys: ControlMethod {
        public static let method = "io.tdxd.Manager.GetKeys"
        public static let streams = false
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            public var backend: Backend
            public var emulated: Bool
            /// How many key ids there are for TDs; null where the kernel does not tell, as without +misc in the root
            /// control group's cgroup.subtree_control.
            public var capacity: Int?
            public var free: Int?
            public var reserved: Int
            public var inUse: Int
            public var draining: Int
            /// Those that are not free, in ascending order.
            public var keys: [KeyHolding]

            public init(
                backend: Backend, capacity: Int? = nil, free: Int? = nil, reserved: Int, inUse: Int, draining: Int,
                keys: [KeyHolding]
            ) {
                self.backend = backend
                self.emulated = backend.isEmulated
                self.capacity = capacity
                self.free = free
                self.reserved = reserved
                self.inUse = inUse
                self.draining = draining
                self.keys = keys
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                backend = try fields.decode(Backend.self, forKey: .backend)
                emulated = try fields.decode(Bool.self, forKey: .emulated)
                capacity = try fields.decodeIfPresent(Int.self, forKey: .capacity, in: 0...1 << 16)
                free = try fields.decodeIfPresent(Int.self, forKey: .free, in: 0...1 << 16)
                reserved = try fields.decode(Int.self, forKey: .reserved, in: 0...1 << 16)
                inUse = try fields.decode(Int.self, forKey: .inUse, in: 0...1 << 16)
                draining = try fields.decode(Int.self, forKey: .draining, in: 0...1 << 16)
                keys = try fields.decode([KeyHolding].self, forKey: .keys)
            }

            enum CodingKeys: String, CodingKey {
                case backend
                case emulated
                case capacity
                case free
                case reserved
                case inUse = "in_use"
                case draining
                case keys
            }
        }
    }

    /// Finds ranges of which both sides are resident; conversions wait meanwhile.
    public enum Verify: ControlMethod {
        public static let method = "io.tdxd.Manager.Verify"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: TrustDomainName
            /// Whether the side that is not in use is freed.
            public var reclaim: Bool

            public init(name: TrustDomainName, reclaim: Bool) {
                self.name = name
                self.reclaim = reclaim
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            /// Whether what was found was freed.
            public var reclaimed: Bool
            public var checkedBytes: UInt64
            public var wastedBytes: UInt64
            /// In ascending order.
            public var ranges: [DoubleResidency]
            public var milliseconds: Double

            public init(
                name: String, backend: Backend, reclaimed: Bool, checkedBytes: UInt64, wastedBytes: UInt64,
                ranges: [DoubleResidency], milliseconds: Double
            ) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.reclaimed = reclaimed
                self.checkedBytes = checkedBytes
                self.wastedBytes = wastedBytes
                self.ranges = ranges
                self.milliseconds = milliseconds
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                name = try fields.decode(String.self, forKey: .name)
                backend = try fields.decode(Backend.self, forKey: .backend)
                emulated = try fields.decode(Bool.self, forKey: .emulated)
                reclaimed = try fields.decode(Bool.self, forKey: .reclaimed)
                checkedBytes = try fields.decode(UInt64.self, forKey: .checkedBytes, in: 0...1 << 52)
                wastedBytes = try fields.decode(UInt64.self, forKey: .wastedBytes, in: 0...1 << 52)
                ranges = try fields.decode([DoubleResidency].self, forKey: .ranges)
                milliseconds = try fields.decode(Double.self, forKey: .milliseconds)
            }

            enum CodingKeys: String, CodingKey {
                case name
                case backend
                case emulated
                case reclaimed
                case checkedBytes = "checked_bytes"
                case wastedBytes = "wasted_bytes"
                case ranges
                case milliseconds
            }
        }
    }

    /// Empties the host: no new TDs, and running ones are ended by the policy. Stays so, also across a restart of tdxd,
    /// until Undrain. Answers when nothing is left to wait for, or at the deadline: what is not done by then goes on.
    public enum Drain: ControlMethod {
        public static let method = "io.tdxd.Manager.Drain"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            /// module_update only waits for TDs that are being built: others survive it.
            public var purpose: DrainPurpose
            /// Null for the configured one; one that would refuse or wait counts as auto.
            public var policy: StopPolicy?
            /// 1 s to 7 days; null to wait without limit.
            public var deadlineMilliseconds: EndDeadline?

            public init(purpose: DrainPurpose, policy: StopPolicy? = nil, deadlineMilliseconds: EndDeadline? = nil) {
                self.purpose = purpose
                self.policy = policy
                self.deadlineMilliseconds = deadlineMilliseconds
            }

            enum CodingKeys: String, CodingKey {
                case purpose
                case policy
                case deadlineMilliseconds = "deadline_ms"
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var status: DrainStatus?

            public init(progress: Progress? = nil, status: DrainStatus? = nil) {
                self.progress = progress
                self.status = status
            }
        }
    }

    public enum GetDrain: ControlMethod {
        public static let method = "io.tdxd.Manager.GetDrain"
        public static let streams = false
        public typealias Parameters = NoParameters
        public typealias Reply = ControlInterface.StatusReply
    }

    /// New TDs may come again. TDs that were ended stay ended.
    public enum Undrain: ControlMethod {
        public static let method = "io.tdxd.Manager.Undrain"
        public static let streams = false
        public typealias Parameters = NoParameters
        public typealias Reply = ControlInterface.StatusReply
    }

    /// Whether another kernel may be started now (kexec), and what prevents it. Changes nothing.
    public enum CheckKexec: ControlMethod {
        public static let method = "io.tdxd.Manager.CheckKexec"
        public static let streams = false
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            public var backend: Backend
            public var emulated: Bool
            /// No check fails, and what other programs' VMs hold is known.
            public var safe: Bool
            public var checks: [HostCheck]
            public var answers: [KexecAnswer]

            public init(backend: Backend, safe: Bool, checks: [HostCheck], answers: [KexecAnswer]) {
                self.backend = backend
                self.emulated = backend.isEmulated
                self.safe = safe
                self.checks = checks
                self.answers = answers
            }
        }
    }

    /// Every page of this host that is private or in transition, over the TDs that there are when the call comes; one
    /// that is proven back meanwhile is left out. Changes nothing. The figures of each TD are of one moment, with
    /// ranges that of its sequence. With "more", answers of at most 256 TDs and 4096 ranges come as fast as they are
    /// read, each TD before its ranges, and the total in the last one; without, the total alone. One user may read 4
    /// inventories at a time.
    public enum Inventory: ControlMethod {
        public static let method = "io.tdxd.Manager.Inventory"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            /// Null for false.
            public var ranges: Bool?

            public init(ranges: Bool? = nil) {
                self.ranges = ranges
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var domains: [InventoryDomain]?
            public var ranges: [InventoryRanges]?
            public var total: InventoryTotal?

            public init(
                domains: [InventoryDomain]? = nil, ranges: [InventoryRanges]? = nil, total: InventoryTotal? = nil
            ) {
                self.domains = domains
                self.ranges = ranges
                self.total = total
            }
        }
    }

    /// Runs a small guest on a real vCPU with guest_memfd memory. With "more", each step is reported as it ends;
    /// backend, verdict and all steps are in the last reply.
    public enum SelfTest: ControlMethod {
        public static let method = "io.tdxd.Manager.SelfTest"
        public static let streams = true
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            public var step: SelfTestStep?
            public var backend: String?
            public var passed: Bool?
            public var steps: [SelfTestStep]?

            public init(
                step: SelfTestStep? = nil, backend: String? = nil, passed: Bool? = nil, steps: [SelfTestStep]? = nil
            ) {
                self.step = step
                self.backend = backend
                self.passed = passed
                self.steps = steps
            }
        }
    }
}

extension NUMAPolicy {
    /// bind: these nodes and no others; interleave: page by page over these nodes.
    public enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
        case bind
        case interleave
    }
}

/// What happens when the holder is killed. armed: a second process that shares its memory terminates the TD. rehearsal:
/// on an emulated backend that process makes a call that changes nothing. null: nothing.
public enum LastWillState: String, Codable, Hashable, Sendable, CaseIterable {
    case armed
    case rehearsal
}

/// Whose process the holder is; null from a tdxd that knows one kind only: held.
public enum HolderKind: String, Codable, Hashable, Sendable, CaseIterable {
    /// tdxd's own tdx-holder.
    case held
    /// Another program's that has attached its TD: a VMM.
    case attached
}

public enum PageAttribute: String, Codable, Hashable, Sendable, CaseIterable {
    case `private`
    case shared
    case convertingToPrivate = "converting_to_private"
    case convertingToShared = "converting_to_shared"
}

public enum CheckResult: String, Codable, Hashable, Sendable, CaseIterable {
    case pass
    case skip
    case fail
}

extension ConversionAccount {
    public enum Origin: String, Codable, Hashable, Sendable, CaseIterable {
        case host
        case guest
    }
}

extension ConversionAccount {
    public enum Outcome: String, Codable, Hashable, Sendable, CaseIterable {
        case done
        case cancelled
        case failed
    }
}

/// map: from its attribute map. whole: all its memory, because how much of it is private is not known: it is being
/// built, its holder is dead or does not answer, or it has ended and its memory is not proven back.
public enum InventorySource: String, Codable, Hashable, Sendable, CaseIterable {
    case map
    case whole
}
