public import MemoryUnits
public import TDXStatusCodes

/// Why a vCPU left the guest (reference §1.3, "Exit RAX").
public enum TDExit: Hashable, Sendable {
    /// Asynchronous: a host interrupt. VMX exit reason 1.
    case externalInterrupt
    /// Asynchronous: the guest executed HLT through the module, or was idle. VMX exit reason 12.
    case halt
    /// Asynchronous: VMX exit reason 48. `qualification` is the VMX exit qualification (bit 0 read, 1 write, 2 fetch).
    case eptViolation(gpa: GuestPhysicalAddress, qualification: UInt64, extended: ExtendedQualification)
    /// The guest's TDG.VP.VMCALL: VMX exit reason 77. `registers` are the guest's; RCX is the mask of what it passes.
    case vmcall(registers: Registers)
    /// The vCPU cannot go on and becomes disabled; VMX exit reason in bits 31:0.
    case nonRecoverableVCPU(reason: UInt32)
    /// The trust domain becomes FATAL: a triple fault or a similar condition; VMX exit reason in bits 31:0.
    case nonRecoverableTD(reason: UInt32)
    /// A machine check hit memory of the trust domain, which becomes FATAL. VMX exit reason 41.
    case machineCheck
    /// The guest met the host's priority on a lock for longer than its timeout (reference §7.3). Trap type.
    case hostPriorityTimeout
}

/// The extended exit qualification of an EPT violation, RDX (reference §1.3 and §2.1).
public struct ExtendedQualification: Hashable, Sendable {
    /// RDX bits 3:0.
    public enum Kind: UInt8, Hashable, Sendable {
        case none = 0
        /// TDG.MEM.PAGE.ACCEPT met an entry that the host must change.
        case accept = 1
        case gpaDetails = 2
        case attributeWrite = 5
        /// A pending page was touched while its trust domain asked for no #VE.
        case pendingViolation = 6
    }

    public var kind: Kind
    /// The level that the guest named, 0 … 2.
    public var requestedLevel: UInt8
    /// The level of the entry where the walk ended.
    public var entryLevel: UInt8
    /// The public state of that entry (reference §6.1).
    public var entryState: UInt8
    /// Whether that entry is a leaf.
    public var isLeaf: Bool

    public init(
        kind: Kind, requestedLevel: UInt8 = 0, entryLevel: UInt8 = 0, entryState: UInt8 = 0, isLeaf: Bool = false
    ) {
        self.kind = kind
        self.requestedLevel = requestedLevel
        self.entryLevel = entryLevel
        self.entryState = entryState
        self.isLeaf = isLeaf
    }

    public static var none: Self { Self(kind: .none) }

    /// RDX as VP.ENTER returns it: type in bits 3:0; level, level, state and leaf in bits 63:32.
    public var rawValue: UInt64 {
        guard kind != .none else { return 0 }
        let info =
            UInt64(requestedLevel) | UInt64(entryLevel) << 3 | UInt64(entryState) << 6 | (isLeaf ? 1 << 14 : 0)
        return UInt64(kind.rawValue) | info << 32
    }
}

/// What came of a guest's TDCALL.
public enum TDCallOutcome: Hashable, Sendable {
    /// The call ended; the registers hold its outputs and RAX the status.
    case completed(TDXStatus)
    /// The call cannot end before the host acts. The vCPU is still inside: hand the exit to
    /// `TDXModule.exit(_:vcpu:into:)`. After the next entry the guest executes the call again, except for VMCALL,
    /// which then completes with RAX = 0 and the host's answers.
    case exit(TDExit)
    /// The processor is not where a TDCALL is possible: no vCPU at that address is inside the guest.
    case notInside
}

/// What a guest's access to its memory meets (reference §2.3).
public enum GuestAccessOutcome: Hashable, Sendable {
    /// Private memory: host-physical address of the byte, and the trust domain's key.
    case memory(HostPhysicalAddress, key: KeyID)
    /// Shared memory: the host's EPT translates it, the module has no part in it.
    case shared
    /// The guest gets #VE: the page is pending and was not accepted.
    case virtualizationException
    /// The vCPU must leave the guest.
    case exit(TDExit)
    /// No vCPU at that address is inside the guest.
    case notInside
}
