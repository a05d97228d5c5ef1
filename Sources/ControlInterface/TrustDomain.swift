/// The state of a TD as a client of tdxd sees it.
public enum TrustDomainState: String, Codable, Hashable, Sendable, CaseIterable {
    case building
    case runnable
    case stopping
    case failed
    case draining
}

/// Whose process a TD's holder is.
public enum HolderKind: String, Codable, Hashable, Sendable, CaseIterable {
    /// tdxd's own `tdx-holder`.
    case held
    /// Somebody else's, which has attached its TD: a VMM.
    case attached
}

/// One TD, as `list` and `show` give it. Sizes in bytes.
public struct TrustDomain: Codable, Hashable, Sendable {
    public var name: String
    /// 32 hexadecimal digits, never used twice.
    public var id: String
    public var state: TrustDomainState
    public var reason: String?
    public var backend: Backend
    public var emulated: Bool
    public var memoryBytes: UInt64
    public var privateBytes: UInt64
    public var sharedBytes: UInt64
    public var convertingBytes: UInt64
    /// Nil where the kernel cannot count what is resident, or has not been asked yet.
    public var residentBytes: UInt64?
    public var residentPrivateBytes: UInt64?
    public var residentSharedBytes: UInt64?
    public var vcpus: Int
    /// Nil where the kernel keeps it to itself (backend tdx).
    public var keyID: UInt16?
    public var holderPID: Int32
    /// 96 hexadecimal digits; nil until the TD is finalized.
    public var mrtd: String?
    public var firmware: String?
    public var createdAt: String
    public var ownerUID: UInt32
    /// Nil where no NUMA policy was asked for.
    public var numa: NUMAPlacement?
    /// What happens when the holder is killed; nil for nothing.
    public var lastWill: LastWillState?
    /// Nil from a tdxd that knows one kind only: `held`.
    public var kind: HolderKind?

    public init(
        name: String, id: String, state: TrustDomainState, reason: String?, backend: Backend, memoryBytes: UInt64,
        privateBytes: UInt64, sharedBytes: UInt64, convertingBytes: UInt64, residentPrivateBytes: UInt64?,
        residentSharedBytes: UInt64?, vcpus: Int, keyID: UInt16?, holderPID: Int32, mrtd: String?, firmware: String?,
        createdAt: String, ownerUID: UInt32, numa: NUMAPlacement? = nil, lastWill: LastWillState? = nil,
        kind: HolderKind? = nil
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
        self.residentBytes = residentPrivateBytes.flatMap { own in
            residentSharedBytes.flatMap { other in
                let sum = own.addingReportingOverflow(other)
                return sum.overflow ? nil : sum.partialValue
            }
        }
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

    enum CodingKeys: String, CodingKey {
        case name, id, state, reason, backend, emulated
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
        case mrtd, firmware
        case createdAt = "created_at"
        case ownerUID = "owner_uid"
        case numa
        case lastWill = "last_will"
        case kind
    }
}
