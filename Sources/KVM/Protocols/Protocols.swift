public import LinuxSystem
public import MemoryUnits

// The one seam of the project: the kernel's uAPI. `Kernel…` types implement these protocols by ioctl, TDXEmulator
// implements them on the software TDX module. Whatever stands above sees nothing else. All calls may block and are
// made on threads of their own, never on Swift's cooperative pool. Objects may be used from several threads.

/// /dev/kvm
public protocol KVMSystem: AnyObject, Sendable {
    /// KVM_GET_API_VERSION; 12 everywhere.
    func apiVersion() throws(KVMError) -> Int
    /// KVM_CHECK_EXTENSION at system scope; 0 for what the kernel does not know.
    func check(_ capability: KVMCapability) throws(KVMError) -> Int
    /// KVM_CREATE_VM.
    func createVirtualMachine(_ type: VMType) throws(KVMError) -> any KVMVirtualMachine
}

/// One VM. Only the address space that created it may call it (EIO otherwise).
public protocol KVMVirtualMachine: AnyObject, Sendable {
    var type: VMType { get }
    /// KVM_CHECK_EXTENSION at VM scope.
    func check(_ capability: KVMCapability) throws(KVMError) -> Int
    /// KVM_ENABLE_CAP with up to four arguments.
    func enable(_ capability: KVMCapability, _ arguments: [UInt64]) throws(KVMError)
    /// KVM_CREATE_GUEST_MEMFD; the descriptor is close-on-exec when this returns.
    func createGuestMemory(size: ByteCount, flags: GuestMemoryFlags) throws(KVMError) -> any KVMGuestMemory
    /// KVM_SET_USER_MEMORY_REGION2: create, move or change a slot.
    func setMemorySlot(_ slot: MemorySlot) throws(KVMError)
    /// KVM_SET_USER_MEMORY_REGION2 with size 0.
    func deleteMemorySlot(_ id: UInt32) throws(KVMError)
    /// KVM_SET_MEMORY_ATTRIBUTES: the whole range becomes private or shared. Signals are not looked at: chunk it.
    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError)
    /// KVM_CREATE_VCPU.
    func createVCPU(id: UInt32) throws(KVMError) -> any KVMVirtualCPU

    /// KVM_SET_TSC_KHZ on the VM, before its first vCPU: the frequency of the guest's time-stamp counter in kHz; 0 for the host's
    /// own. A TD has it from KVM_TDX_INIT_VM on, in units of 25 MHz, 100 MHz to 10 GHz.
    func setTSCFrequency(kilohertz: UInt32) throws(KVMError)
    /// KVM_TDX_CAPABILITIES; grows the buffer on E2BIG.
    func tdxCapabilities() throws(KVMError) -> TDXCapabilities
    /// KVM_TDX_INIT_VM.
    func tdxInitialize(_ parameters: TDXInitialization) throws(KVMError)
    /// KVM_TDX_FINALIZE_VM.
    func tdxFinalize() throws(KVMError)
    /// KVM_TDX_TERMINATE_VM, where the kernel has it (EINVAL, ENOTTY and EOPNOTSUPP mean that it does not).
    func tdxTerminate() throws(KVMError)

    /// A second descriptor of the kernel's VM object, for this process's last will: it keeps the VM until it is closed, and
    /// only this address space can make a call on it. Nil where the kernel knows of no VM.
    func retainedDescriptor() throws(KVMError) -> RetainedDescriptor?
    /// Drops the VM's descriptor. vCPUs and guest memory hold references of their own. A second call does nothing.
    func close()
}

extension KVMVirtualMachine {
    /// A VM that only stands in for the kernel's has none.
    public func retainedDescriptor() throws(KVMError) -> RetainedDescriptor? { nil }
}

/// One vCPU.
public protocol KVMVirtualCPU: AnyObject, Sendable {
    var id: UInt32 { get }

    /// KVM_TDX_INIT_VCPU; `initialRCX` is what the guest finds in RCX and R8.
    func tdxInitialize(initialRCX: UInt64) throws(KVMError)
    /// KVM_TDX_GET_CPUID: the leaves that the TD sees, as far as the kernel reads them from the module. EINVAL before
    /// `tdxInitialize(_:)` of the VM and from `tdxFinalize()` on.
    func tdxCPUID() throws(KVMError) -> [CPUIDEntry]
    /// KVM_SET_CPUID2.
    func setCPUID(_ entries: [CPUIDEntry]) throws(KVMError)
    /// KVM_TDX_INIT_MEM_REGION: adds whole pages to the TD before it is finalized, resumed until all are done or one
    /// fails. `progress` hears how many pages are done. On failure the pages before stay added.
    func tdxInitializeMemory(
        from source: UnsafeRawBufferPointer, at address: GuestPhysicalAddress, measured: Bool,
        progress: (PageCount) -> Void
    ) throws(KVMError)
    /// KVM_PRE_FAULT_MEMORY, resumed on partial progress.
    func preFault(_ range: GuestPhysicalRange) throws(KVMError)

    /// KVM_SET_SREGS and KVM_SET_REGS, for a guest that is not a TD.
    func start(mode: VCPUMode, registers: VCPURegisters) throws(KVMError)
    /// KVM_GET_REGS
    func registers() throws(KVMError) -> VCPURegisters
    /// KVM_RUN. Returns `.interrupted` on EINTR and `.memoryFault` where the kernel reports one; other errors are thrown.
    func run() throws(KVMError) -> VCPUExit
    /// What the guest reads from the port that it just exited on; `data` is as long as the access.
    func completeInput(_ data: [UInt8])
    /// The hypercall's return value; for MAP_GPA_RANGE 0, EAGAIN or EINVAL as positive numbers.
    func completeHypercall(_ result: UInt64)
    /// The answer to `VCPUExit.tdx`; without one the kernel's preset stands.
    func completeTDX(_ answer: TDXAnswer)
    /// Sets `immediate_exit`, so that the next or (with a signal) the present KVM_RUN returns `.interrupted`.
    func setImmediateExit(_ on: Bool)

    /// Drops the descriptor and unmaps kvm_run. A second call does nothing.
    func close()
}

/// One guest_memfd. It works from any process that holds it, also after the VM's creator died.
public protocol KVMGuestMemory: AnyObject, Sendable {
    var size: ByteCount { get }
    /// st_ino, which distinguishes guest_memfds in /proc.
    var inode: UInt64 { get }

    /// fallocate(KEEP_SIZE); EINTR is resumed. Pages that were there stay as they are.
    func allocate(_ range: FileRange) throws(KVMError)
    /// fallocate(PUNCH_HOLE | KEEP_SIZE): unmaps from the guest and frees. Not interruptible; keep it to 64 MiB.
    func punchHole(_ range: FileRange) throws(KVMError)
    /// Bytes present, by cachestat(2).
    func residentBytes(_ range: FileRange) throws(KVMError) -> ByteCount
    /// Maps the file shared and writable; ENODEV where it was made without MMAP.
    func map(_ range: FileRange) throws(KVMError) -> any MappedMemory
    /// A second descriptor for another process. It keeps the memory and the VM alive until it is closed.
    func duplicateDescriptor() throws(KVMError) -> OwnedDescriptor
    /// Drops the descriptor. A second call does nothing.
    func close()
}
