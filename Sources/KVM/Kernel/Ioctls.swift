package import CKVM

/// A request whose argument is a structure. The number is made from direction, ordinal and the structure's size, as
/// the kernel's _IOW and its siblings do.
package struct Ioctl<Payload: BitwiseCopyable>: Sendable {
    package let request: KVMRequest

    fileprivate init(
        _ name: String, _ direction: KVMRequest.Direction, _ ordinal: UInt8, _ scopes: Set<KVMRequest.Scope>
    ) {
        request = KVMRequest(name, direction, ordinal, size: MemoryLayout<Payload>.size, scopes)
    }
}

/// The requests that this library makes, each declared once. Source: reference kernel header, include/uapi/linux/kvm.h.
package enum Ioctls {
    // ---- /dev/kvm
    package static let getAPIVersion = plain("KVM_GET_API_VERSION", 0x00, [.system])
    /// The argument is the VM type.
    package static let createVM = plain("KVM_CREATE_VM", 0x01, [.system])
    /// The argument is the capability.
    package static let checkExtension = plain("KVM_CHECK_EXTENSION", 0x03, [.system, .virtualMachine])
    package static let getVCPUMmapSize = plain("KVM_GET_VCPU_MMAP_SIZE", 0x04, [.system])

    // ---- VM
    /// The argument is the vCPU's id.
    package static let createVCPU = plain("KVM_CREATE_VCPU", 0x41, [.virtualMachine])
    /// The argument is the frequency in kHz.
    package static let setTSCFrequency = plain("KVM_SET_TSC_KHZ", 0xA2, [.virtualMachine])
    package static let setUserMemoryRegion = Ioctl<kvm_userspace_memory_region>(
        "KVM_SET_USER_MEMORY_REGION", .write, 0x46, [.virtualMachine])
    package static let setUserMemoryRegion2 = Ioctl<tdxd_kvm_userspace_memory_region2>(
        "KVM_SET_USER_MEMORY_REGION2", .write, 0x49, [.virtualMachine])
    package static let enableCapability = Ioctl<kvm_enable_cap>("KVM_ENABLE_CAP", .write, 0xA3, [.virtualMachine])
    package static let setMemoryAttributes = Ioctl<tdxd_kvm_memory_attributes>(
        "KVM_SET_MEMORY_ATTRIBUTES", .write, 0xD2, [.virtualMachine])
    package static let createGuestMemfd = Ioctl<tdxd_kvm_create_guest_memfd>(
        "KVM_CREATE_GUEST_MEMFD", .readWrite, 0xD4, [.virtualMachine])

    // ---- VM and vCPU
    /// Its number encodes eight bytes; TDX copies the 24 of `struct kvm_tdx_cmd`.
    package static let memoryEncryptOperation = Ioctl<UInt>(
        "KVM_MEMORY_ENCRYPT_OP", .readWrite, 0xBA, [.virtualMachine, .virtualCPU])

    package static let getStatsFD = plain("KVM_GET_STATS_FD", 0xCE, [.virtualMachine, .virtualCPU])

    // ---- vCPU
    package static let run = plain("KVM_RUN", 0x80, [.virtualCPU])
    package static let getRegisters = Ioctl<kvm_regs>("KVM_GET_REGS", .read, 0x81, [.virtualCPU])
    package static let setRegisters = Ioctl<kvm_regs>("KVM_SET_REGS", .write, 0x82, [.virtualCPU])
    package static let getSpecialRegisters = Ioctl<kvm_sregs>("KVM_GET_SREGS", .read, 0x83, [.virtualCPU])
    package static let setSpecialRegisters = Ioctl<kvm_sregs>("KVM_SET_SREGS", .write, 0x84, [.virtualCPU])
    /// The number counts the header alone; the entries follow it.
    package static let setCPUID2 = Ioctl<CPUIDHeader>("KVM_SET_CPUID2", .write, 0x90, [.virtualCPU])
    package static let preFaultMemory = Ioctl<tdxd_kvm_pre_fault_memory>(
        "KVM_PRE_FAULT_MEMORY", .readWrite, 0xD5, [.virtualCPU])

    /// What precedes the entries of `struct kvm_cpuid2`.
    package struct CPUIDHeader: BitwiseCopyable {
        var count: UInt32
        var padding: UInt32
    }

    private static func plain(_ name: String, _ ordinal: UInt8, _ scopes: Set<KVMRequest.Scope>) -> KVMRequest {
        KVMRequest(name, .none, ordinal, size: 0, scopes)
    }
}
