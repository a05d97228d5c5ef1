public import FirmwareImage
public import KVM
internal import MemoryUnits

/// What a TD is made from.
public struct TrustDomainConfiguration: Sendable {
    /// Shows in /proc as part of the backing files' names.
    public var name: String
    public var layout: GuestMemoryLayout
    /// What is loaded before the TD runs; `.empty` without firmware.
    public var plan: LoadPlan
    /// 1 … KVM_CAP_MAX_VCPUS.
    public var vcpus: Int
    /// 48 bytes each.
    public var mrConfigID: [UInt8]
    public var mrOwner: [UInt8]
    public var mrOwnerConfig: [UInt8]
    /// TD attributes; nil for SEPT_VE_DISABLE alone where the module offers it, as Linux guests want it.
    public var attributes: UInt64?
    /// Extended features; nil for x87, SSE and, where offered, AVX.
    public var xfam: UInt64?
    /// CPUID as KVM_TDX_INIT_VM takes it: leaves and bits of `TDXCapabilities.configurableCPUID`, leaf 0x80000008 among them.
    /// Nil for the least that KVM accepts. What KVM_SET_CPUID2 takes follows from it and from KVM_TDX_GET_CPUID.
    public var cpuid: [CPUIDEntry]?
    /// The frequency of the TD's time-stamp counter in kHz: a multiple of 25,000 of 100,000 … 10,000,000. Nil for the host's own,
    /// rounded down to one.
    public var tscFrequency: UInt32?
    /// Whether all private memory is allocated before the TD runs.
    public var isPreallocated = false
    /// Whether all private memory is mapped into the TD's page table before the TD runs, and so allocated, too. Refused
    /// where KVM_CAP_PRE_FAULT_MEMORY is 0.
    public var isPrefaulted = false
    /// Nil for `ShardPolicy.automatic` on this host's CPUs.
    public var shards: ShardPolicy?
    /// On which NUMA nodes its memory is allocated; nil for wherever the allocating thread runs.
    public var placement: MemoryPlacement?
    /// Hears of every conversion once the TD is made, of this TD alone; nil for one that only remembers.
    public var observer: ConversionObserver?

    public init(
        name: String, layout: GuestMemoryLayout, plan: LoadPlan = .empty, vcpus: Int,
        mrConfigID: [UInt8] = Self.noIdentity, mrOwner: [UInt8] = Self.noIdentity,
        mrOwnerConfig: [UInt8] = Self.noIdentity
    ) {
        self.name = name
        self.layout = layout
        self.plan = plan
        self.vcpus = vcpus
        self.mrConfigID = mrConfigID
        self.mrOwner = mrOwner
        self.mrOwnerConfig = mrOwnerConfig
    }

    /// 48 zero bytes.
    public static var noIdentity: [UInt8] { [UInt8](repeating: 0, count: MeasurementRegister.byteCount) }

    /// SEPT_VE_DISABLE: a guest that touches a page that it has not accepted is stopped instead of getting #VE.
    public static var septVEDisable: UInt64 { 1 << 28 }
    /// x87 and SSE, which every TD must have.
    static var leastXFAM: UInt64 { 0x3 }
    static var avx: UInt64 { 0x4 }

    /// Leaf 0x80000008 with a guest-physical address width of 48 bits in EAX[23:16], which KVM insists on.
    static var leastCPUID: [CPUIDEntry] { [CPUIDEntry(function: addressSizes, eax: 48 << 16)] }
    static var addressSizes: UInt32 { 0x8000_0008 }
}

/// Why a TD could not be made, used or ended.
public enum TrustDomainError: Error, Hashable, Sendable {
    /// Bad input; nothing was changed.
    case invalid(field: String, value: String, limit: String)
    /// The TD is not in a state for this.
    case wrongState(TrustDomainState, operation: String)
    /// The host's key ids, or the control group's share of them, are used up.
    case noKeyAvailable(KVMError)
    /// The kernel refused. A TD that was being made is gone without a trace.
    case refused(KVMError)
    /// A conversion stopped on the way.
    case conversion(IncompleteConversion)
    /// The teardown was not begun.
    case teardown(TeardownRefused)
}

extension TrustDomainError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .invalid(let field, let value, let limit): "\(field) is \(value); it must be \(limit)"
        case .wrongState(let state, let operation): "the TD is \(state.rawValue); \(operation) is not possible"
        case .noKeyAvailable(let error): "no key id is free: \(error.description)"
        case .refused(let error): error.description
        case .conversion(let error): error.description
        case .teardown(.terminateAbsent):
            "the policy is terminate-first and this kernel has no KVM_TDX_TERMINATE_VM"
        }
    }

    init(_ error: GuestMemoryError) {
        switch error {
        case .invalid(let field, let value, let limit): self = .invalid(field: field, value: value, limit: limit)
        case .refused(let error): self = .refused(error)
        }
    }

    init(_ error: ConversionError) {
        switch error {
        case .invalid(let error): self.init(error)
        case .incomplete(let error): self = .conversion(error)
        }
    }
}
