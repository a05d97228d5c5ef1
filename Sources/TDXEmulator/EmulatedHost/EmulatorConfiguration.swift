public import KVM
public import MemoryUnits
public import TDXModule

/// Where an emulated host keeps guest memory and which kernel checks its calls besides the emulator itself.
public enum EmulatedHost: Sendable {
    /// A type-0 VM of the real /dev/kvm underneath; private pages are pages of its guest_memfds, which are made with MMAP
    /// and INIT_SHARED there. Memslots are the real VM's too.
    case guestMemfd(any KVMSystem)
    /// No /dev/kvm: private pages are pages of sealed memfds.
    case memfd
    /// A type-1 VM of the real /dev/kvm underneath; memslots and KVM_SET_MEMORY_ATTRIBUTES are the real VM's too. The
    /// host cannot write its private pages: a real vCPU copies them.
    case softwareProtected(any KVMSystem)
}

/// What the emulated kernel makes of KVM_TDX_TERMINATE_VM (command 6). Source: reference/kvm.md §5.3.
public enum TerminateSupport: Hashable, Sendable {
    /// As Linux 7.2: EINVAL.
    case absent
    /// As proposed, announced by bit 0 of `supported_caps`.
    case announced
    /// As the early revisions of the proposal: works, but nothing announces it.
    case unannounced
    /// Announced; the first `times` calls find a vCPU mutex taken and answer EBUSY.
    case busy(times: Int)
}

/// How an emulated host is built.
public struct EmulatorConfiguration: Sendable {
    public var host: EmulatedHost
    /// Key ids that TDs may get, each in 2 … 2046; the lowest but one below them is the module's global key. One TD holds one from INIT_VM until its VM is destroyed.
    public var keyIDs: [KeyID]
    /// `misc.max` of the resource "tdx" as the caller's cgroup has it; nil for no limit. 0 stands for no capacity.
    public var keyIDLimit: Int?
    public var terminate: TerminateSupport
    /// CPU packages: KEY.CONFIG and CACHE.WB run once on each. 1 … 8.
    public var packages: Int
    /// Logical CPUs a package has; KVM_CAP_MAX_VCPUS of a TD is at most their total. ≥ 1.
    public var processorsPerPackage: Int
    /// Emulated physical memory that TDs may use, rounded up to 1 GiB. It costs nothing until it is used.
    public var memory: ByteCount
    /// Which page that is taken from a TD the module refuses to give up, counted from 1 over MEM.PAGE.REMOVE and
    /// PHYMEM.PAGE.RECLAIM of all TDs: PAGE_METADATA_INCORRECT, a KVM_BUG_ON. Nil for none.
    public var failingRemoval: Int?
    /// A vCPU that has entered KVM_RUN never leaves it, as one whose thread is stuck in the kernel: neither `immediate_exit` nor a
    /// signal reaches it, and it holds its mutex and the VM until the process ends.
    public var keepsVCPUs: Bool
    /// The kernel has KVM_PRE_FAULT_MEMORY. False: the capability is 0 and the call answers EOPNOTSUPP.
    public var preFaults: Bool
    /// What a vCPU does whose guest's program has returned: false has KVM_RUN answer `.halt`, which no kernel with its APIC in the
    /// kernel does, so that a test sees the program's end; true has it wait as a halted vCPU waits.
    public var idlesWhenFinished: Bool
    /// The processor under the module. KVM_TDX_INIT_VM takes no other signature in CPUID leaf 1 than its own.
    public var processor: ProcessorModel
    /// What stands for the guests' kernels; nil: KVM_RUN has nothing to execute and reports that.
    public var guest: (any GuestAgent)?

    public init(
        host: EmulatedHost, keyIDs: [KeyID] = [KeyID(33)], keyIDLimit: Int? = nil,
        terminate: TerminateSupport = .announced, packages: Int = 1, processorsPerPackage: Int = 64,
        memory: ByteCount = .gibibytes(4096), failingRemoval: Int? = nil, keepsVCPUs: Bool = false,
        preFaults: Bool = true, idlesWhenFinished: Bool = false, processor: ProcessorModel = .sapphireRapids,
        guest: (any GuestAgent)? = nil
    ) {
        precondition(failingRemoval.map { $0 >= 1 } ?? true, "removals are counted from 1")
        self.host = host
        self.keyIDs = keyIDs
        self.keyIDLimit = keyIDLimit
        self.terminate = terminate
        self.packages = packages
        self.processorsPerPackage = processorsPerPackage
        self.memory = memory
        self.failingRemoval = failingRemoval
        self.keepsVCPUs = keepsVCPUs
        self.preFaults = preFaults
        self.idlesWhenFinished = idlesWhenFinished
        self.processor = processor
        self.guest = guest
    }
}
