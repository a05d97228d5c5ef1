public import KVM
public import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXStatusCodes

/// A vCPU of an emulated TDX VM.
public final class EmulatedVirtualCPU: KVMVirtualCPU {
    public var id: UInt32 { core.id }
    let machine: TDXMachine
    let core: VCPUCore
    private let handle: Handle

    /// Takes over one reference on the machine.
    init(_ machine: TDXMachine, _ core: VCPUCore) {
        self.machine = machine
        self.core = core
        handle = Handle(retain: machine.retain, release: machine.release)
    }

    public func tdxInitialize(initialRCX: UInt64) throws(KVMError) {
        try handle.use("KVM_TDX_INIT_VCPU") { () throws(KVMError) in
            try machine.initializeVCPU(core, initialRCX: initialRCX)
        }
    }

    public func tdxCPUID() throws(KVMError) -> [CPUIDEntry] {
        try handle.use("KVM_TDX_GET_CPUID") { () throws(KVMError) in try machine.cpuid(core) }
    }

    public func setCPUID(_ entries: [CPUIDEntry]) throws(KVMError) {
        try handle.use("KVM_SET_CPUID2") { () throws(KVMError) in
            try machine.enter("KVM_SET_CPUID2")
            guard entries.count <= 256 else {
                throw KVMError("KVM_SET_CPUID2", .argListTooLong, detail: "\(entries.count) entries of at most 256")
            }
            core.mutex.withLock { core.cpuid = entries }
        }
    }

    /// Issues the command for at most 2 MiB at a time, so that `progress` is heard.
    public func tdxInitializeMemory(
        from source: UnsafeRawBufferPointer, at address: GuestPhysicalAddress, measured: Bool,
        progress: (PageCount) -> Void
    ) throws(KVMError) {
        try handle.use("KVM_TDX_INIT_MEM_REGION") { () throws(KVMError) in
            let chunk = 2 << 20
            var done = 0
            repeat {
                let part = UnsafeRawBufferPointer(rebasing: source[done..<min(done + chunk, source.count)])
                let (start, overflow) = address.rawValue.addingReportingOverflow(UInt64(done))
                guard !overflow else {
                    throw KVMError("KVM_TDX_INIT_MEM_REGION", .invalidArgument, detail: "\(address) wraps")
                }
                try machine.initializeMemory(core, from: part, at: GuestPhysicalAddress(start), measured: measured)
                done += part.count
                progress(ByteCount(UInt64(done)).pages)
            } while done < source.count
        }
    }

    public func preFault(_ range: GuestPhysicalRange) throws(KVMError) {
        try handle.use("KVM_PRE_FAULT_MEMORY") { () throws(KVMError) in
            try core.mutex.withLock { () throws(KVMError) in try machine.preFault(range) }
        }
    }

    /// EINVAL: a TD's registers are the guest's own.
    public func start(mode: VCPUMode, registers: VCPURegisters) throws(KVMError) {
        try refuseRegisters("KVM_SET_SREGS")
    }

    /// EINVAL: a TD's registers are the guest's own.
    public func registers() throws(KVMError) -> VCPURegisters {
        try refuseRegisters("KVM_GET_REGS")
        return VCPURegisters()
    }

    private func refuseRegisters(_ operation: String) throws(KVMError) {
        try handle.use(operation) { () throws(KVMError) in
            try machine.enter(operation)
            throw KVMError(operation, .invalidArgument, detail: "the guest's state is protected")
        }
    }

    /// Without a guest agent nothing can execute: the answer is `.internalError` with subcode 4 (unexpected exit reason)
    /// and the status 0x8000FF00FFFF0000, with which Linux marks a SEAMCALL that did not happen.
    public func run() throws(KVMError) -> VCPUExit {
        try handle.use("KVM_RUN") { () throws(KVMError) in try machine.run(core) }
    }

    public func completeInput(_ data: [UInt8]) { core.setInput(data) }

    public func completeHypercall(_ result: UInt64) { core.setHypercallResult(result) }

    public func completeTDX(_ answer: TDXAnswer) { core.setTDXAnswer(answer) }

    /// Has a VMM's own kvm_run count: the byte `immediate_exit` at this address, which must stay readable; nil for none. A vCPU
    /// whose guest runs sees it at its guest's next step.
    public func watchImmediateExit(at address: UnsafeRawPointer?) { core.guestMode.watchImmediateExit(at: address) }

    public func setImmediateExit(_ on: Bool) { core.guestMode.immediateExit.store(on, ordering: .releasing) }

    /// An event, such as an interrupt, waits for the guest: a MapGPA longer than 2 MiB is cut short after its current
    /// piece, and the guest's call returns “retry” from there.
    /// It wakes a vCPU that halted.
    public func postEvent() {
        core.hasPendingEvent.store(true, ordering: .releasing)
        core.haltWake.signal()
    }

    public func close() { handle.close() }
}
