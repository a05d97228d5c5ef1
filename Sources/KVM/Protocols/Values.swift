public import MemoryUnits

/// A VM type, the argument of KVM_CREATE_VM and a bit of KVM_CAP_VM_TYPES. Unknown values survive.
@frozen
public struct VMType: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// KVM_X86_DEFAULT_VM
    @inlinable public static var `default`: Self { Self(rawValue: 0) }
    /// KVM_X86_SW_PROTECTED_VM
    @inlinable public static var softwareProtected: Self { Self(rawValue: 1) }
    /// KVM_X86_TDX_VM
    @inlinable public static var tdx: Self { Self(rawValue: 5) }
}

/// A KVM capability number. Source: reference/kvm.md §1.2.
@frozen
public struct KVMCapability: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    @inlinable public static var numberOfMemslots: Self { Self(rawValue: 10) }
    @inlinable public static var maximumVCPUs: Self { Self(rawValue: 66) }
    @inlinable public static var maximumVCPUID: Self { Self(rawValue: 128) }
    @inlinable public static var apicBusCycles: Self { Self(rawValue: 237) }
    @inlinable public static var splitIRQChip: Self { Self(rawValue: 121) }
    @inlinable public static var exitHypercall: Self { Self(rawValue: 201) }
    @inlinable public static var userMemory2: Self { Self(rawValue: 231) }
    @inlinable public static var memoryFaultInfo: Self { Self(rawValue: 232) }
    @inlinable public static var memoryAttributes: Self { Self(rawValue: 233) }
    @inlinable public static var guestMemfd: Self { Self(rawValue: 234) }
    @inlinable public static var vmTypes: Self { Self(rawValue: 235) }
    @inlinable public static var preFaultMemory: Self { Self(rawValue: 236) }
    @inlinable public static var guestMemfdFlags: Self { Self(rawValue: 244) }
}

/// GUEST_MEMFD_FLAG_*
public struct GuestMemoryFlags: OptionSet, Hashable, Sendable {
    public var rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// GUEST_MEMFD_FLAG_MMAP
    public static let mmap = Self(rawValue: 1)
    /// GUEST_MEMFD_FLAG_INIT_SHARED
    public static let initShared = Self(rawValue: 2)
}

/// A range of bytes inside a backing file. Both ends are page aligned.
public struct FileRange: Hashable, Sendable {
    public var offset: ByteCount
    public var length: ByteCount

    public init(offset: ByteCount, length: ByteCount) {
        self.offset = offset
        self.length = length
    }
}

/// A memslot. Source: reference/kvm.md §1.4 (KVM_SET_USER_MEMORY_REGION2).
public struct MemorySlot: Sendable {
    /// 0 ..< KVM_CAP_NR_MEMSLOTS
    public var id: UInt32
    public var range: GuestPhysicalRange
    /// Where the shared side is mapped in this process; 0 for none.
    public var userspaceAddress: UInt
    /// The private side; nil for a slot without KVM_MEM_GUEST_MEMFD.
    public var guestMemory: (any KVMGuestMemory)?
    /// Where the slot begins in `guestMemory`.
    public var guestMemoryOffset: ByteCount
    public var flags: Flags

    /// KVM_MEM_*, but for GUEST_MEMFD, which follows from `guestMemory`.
    public struct Flags: OptionSet, Hashable, Sendable {
        public var rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// KVM_MEM_LOG_DIRTY_PAGES; refused for a slot with guest memory.
        public static let logDirtyPages = Self(rawValue: 1)
        /// KVM_MEM_READONLY; refused for a slot with guest memory, and on a TDX VM.
        public static let readOnly = Self(rawValue: 2)
    }

    public init(
        id: UInt32, range: GuestPhysicalRange, userspaceAddress: UInt, guestMemory: (any KVMGuestMemory)? = nil,
        guestMemoryOffset: ByteCount = .zero, flags: Flags = []
    ) {
        self.id = id
        self.range = range
        self.userspaceAddress = userspaceAddress
        self.guestMemory = guestMemory
        self.guestMemoryOffset = guestMemoryOffset
        self.flags = flags
    }
}

/// One CPUID leaf, as struct kvm_cpuid_entry2.
public struct CPUIDEntry: Hashable, Sendable {
    public var function: UInt32
    public var index: UInt32
    public var flags: UInt32
    public var eax: UInt32
    public var ebx: UInt32
    public var ecx: UInt32
    public var edx: UInt32

    public init(
        function: UInt32, index: UInt32 = 0, flags: UInt32 = 0, eax: UInt32 = 0, ebx: UInt32 = 0, ecx: UInt32 = 0,
        edx: UInt32 = 0
    ) {
        self.function = function
        self.index = index
        self.flags = flags
        self.eax = eax
        self.ebx = ebx
        self.ecx = ecx
        self.edx = edx
    }
}

/// What KVM_TDX_CAPABILITIES returns.
public struct TDXCapabilities: Hashable, Sendable {
    public var supportedAttributes: UInt64
    public var supportedXFAM: UInt64
    /// The proposed `supported_caps` word; 0 on kernels without it. Bit 0 announces KVM_TDX_TERMINATE_VM.
    public var supportedCommands: UInt64
    public var configurableCPUID: [CPUIDEntry]
    public var tdvmcalls: TDVMCallSupport

    public init(
        supportedAttributes: UInt64, supportedXFAM: UInt64, supportedCommands: UInt64, configurableCPUID: [CPUIDEntry],
        tdvmcalls: TDVMCallSupport = TDVMCallSupport()
    ) {
        self.supportedAttributes = supportedAttributes
        self.supportedXFAM = supportedXFAM
        self.supportedCommands = supportedCommands
        self.configurableCPUID = configurableCPUID
        self.tdvmcalls = tdvmcalls
    }
}

/// What KVM_TDX_INIT_VM takes. The three identities are 48 bytes each.
public struct TDXInitialization: Hashable, Sendable {
    public var attributes: UInt64
    public var xfam: UInt64
    public var mrConfigID: [UInt8]
    public var mrOwner: [UInt8]
    public var mrOwnerConfig: [UInt8]
    public var cpuid: [CPUIDEntry]

    public init(
        attributes: UInt64, xfam: UInt64, mrConfigID: [UInt8], mrOwner: [UInt8], mrOwnerConfig: [UInt8],
        cpuid: [CPUIDEntry]
    ) {
        precondition(mrConfigID.count == 48 && mrOwner.count == 48 && mrOwnerConfig.count == 48)
        self.attributes = attributes
        self.xfam = xfam
        self.mrConfigID = mrConfigID
        self.mrOwner = mrOwner
        self.mrOwnerConfig = mrOwnerConfig
        self.cpuid = cpuid
    }
}

/// Why a vCPU left KVM_RUN. Source: reference/kvm.md §1.6.
public enum VCPUExit: Hashable, Sendable {
    case io(isWrite: Bool, size: Int, port: UInt16, data: [UInt8])
    case mmio(isWrite: Bool, address: GuestPhysicalAddress, data: [UInt8])
    /// `nr` and the six arguments; answer with `completeHypercall`.
    case hypercall(number: UInt64, arguments: [UInt64])
    case halt
    case shutdown
    /// KVM_RUN failed with EFAULT or EHWPOISON, with the place. Size in bytes.
    case memoryFault(isPrivate: Bool, address: GuestPhysicalAddress, size: ByteCount)
    case systemEvent(type: UInt32, data: [UInt64])
    /// A TDVMCALL for user space; answer with `completeTDX`.
    case tdx(TDXExit)
    /// KVM_EXIT_FAIL_ENTRY: the vCPU could not enter the guest.
    case failedEntry(reason: UInt64)
    case internalError(subcode: UInt32, data: [UInt64])
    /// EINTR: a signal or `immediate_exit`.
    case interrupted
    case other(reason: UInt32)
}

/// The registers a small guest is started with.
public struct VCPURegisters: Hashable, Sendable {
    public var rax: UInt64 = 0
    public var rbx: UInt64 = 0
    public var rcx: UInt64 = 0
    public var rdx: UInt64 = 0
    public var rsi: UInt64 = 0
    public var rdi: UInt64 = 0
    public var rsp: UInt64 = 0
    public var rbp: UInt64 = 0
    public var rip: UInt64 = 0
    public var rflags: UInt64 = 2

    public init() {}
}

/// The processor mode a small guest is started in.
public enum VCPUMode: Hashable, Sendable {
    /// 16-bit real mode, every segment based at 0.
    case real
    /// 32-bit protected mode without paging, flat segments.
    case protected32
}
