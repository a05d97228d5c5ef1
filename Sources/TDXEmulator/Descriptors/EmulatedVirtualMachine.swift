public import KVM
public import LinuxSystem
public import MemoryUnits
internal import SystemPackage

/// A VM of type 5 on an emulated host.
public final class EmulatedVirtualMachine: KVMVirtualMachine {
    public let type = VMType.tdx
    let machine: TDXMachine
    private let handle: Handle

    init(_ machine: TDXMachine) {
        self.machine = machine
        handle = Handle(retain: machine.retain, release: machine.release)
    }

    /// What the emulated host knows of this TD, now and after it was destroyed.
    public var inspection: EmulatedInspection { machine.inspection }

    /// The first KVM_BUG_ON that this TD met, also after its end; quicker than `inspection`.
    public var bug: EmulatedBug? { machine.bug }

    public func check(_ capability: KVMCapability) throws(KVMError) -> Int {
        try handle.use("KVM_CHECK_EXTENSION") { () throws(KVMError) in
            try machine.enter("KVM_CHECK_EXTENSION")
            return try Capabilities.ofMachine(capability, host: machine.host)
        }
    }

    public func enable(_ capability: KVMCapability, _ arguments: [UInt64]) throws(KVMError) {
        try handle.use("KVM_ENABLE_CAP") { () throws(KVMError) in try machine.enable(capability, arguments) }
    }

    /// Only MMAP is a flag that a TDX VM knows; what lies underneath is made with the flags that its kind needs.
    public func createGuestMemory(size: ByteCount, flags: GuestMemoryFlags) throws(KVMError) -> any KVMGuestMemory {
        try handle.use("KVM_CREATE_GUEST_MEMFD") { () throws(KVMError) in
            EmulatedGuestMemory(try machine.createFile(size: size, flags: flags))
        }
    }

    public func setMemorySlot(_ slot: MemorySlot) throws(KVMError) {
        let name = "KVM_SET_USER_MEMORY_REGION2"
        try handle.use(name) { () throws(KVMError) in
            let memory = slot.guestMemory as? EmulatedGuestMemory
            try machine.setMemorySlot(slot, file: memory?.file, isClosed: memory?.isClosed ?? false)
        }
    }

    public func deleteMemorySlot(_ id: UInt32) throws(KVMError) {
        try handle.use("KVM_SET_USER_MEMORY_REGION2") { () throws(KVMError) in try machine.deleteMemorySlot(id) }
    }

    public func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {
        try handle.use("KVM_SET_MEMORY_ATTRIBUTES") { () throws(KVMError) in
            try machine.setMemoryAttributes(range, isPrivate: isPrivate)
        }
    }

    public func setTSCFrequency(kilohertz: UInt32) throws(KVMError) {
        try handle.use("KVM_SET_TSC_KHZ") { () throws(KVMError) in try machine.setTSCFrequency(kilohertz) }
    }

    public func createVCPU(id: UInt32) throws(KVMError) -> any KVMVirtualCPU {
        try handle.use("KVM_CREATE_VCPU") { () throws(KVMError) in
            let vcpu = try machine.createVCPU(id: id)
            machine.retain()
            return EmulatedVirtualCPU(machine, vcpu)
        }
    }

    public func tdxCapabilities() throws(KVMError) -> TDXCapabilities {
        try handle.use("KVM_TDX_CAPABILITIES") { () throws(KVMError) in
            try machine.enter("KVM_TDX_CAPABILITIES")
            return machine.host.capabilities
        }
    }

    public func tdxInitialize(_ parameters: TDXInitialization) throws(KVMError) {
        try handle.use("KVM_TDX_INIT_VM") { () throws(KVMError) in try machine.initialize(parameters) }
    }

    public func tdxFinalize() throws(KVMError) {
        try handle.use("KVM_TDX_FINALIZE_VM") { () throws(KVMError) in try machine.finalize() }
    }

    public func tdxTerminate() throws(KVMError) {
        try handle.use("KVM_TDX_TERMINATE_VM") { () throws(KVMError) in try machine.terminate() }
    }

    /// Of the real VM underneath, if there is one: KVM knows it and nothing of the TD.
    public func retainedDescriptor() throws(KVMError) -> RetainedDescriptor? {
        try handle.use("fcntl(F_DUPFD_CLOEXEC)") { () throws(KVMError) in try machine.backing.retainedDescriptor() }
    }

    public func close() { handle.close() }
}
