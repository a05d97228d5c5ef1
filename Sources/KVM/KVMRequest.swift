/// A KVM ioctl: what it is called, what number it has and on which descriptor it is made.
public struct KVMRequest: Hashable, Sendable {
    /// The kind of descriptor.
    public enum Scope: Hashable, Sendable, CaseIterable {
        /// /dev/kvm
        case system
        case virtualMachine
        case virtualCPU
    }

    /// As the kernel's documentation names it.
    public let name: String
    /// The 32-bit request number of ioctl(2).
    public let number: UInt32
    /// Where it may be made. KVM_MEMORY_ENCRYPT_OP and KVM_CHECK_EXTENSION have two.
    public let scopes: Set<Scope>

    init(_ name: String, _ direction: Direction, _ ordinal: UInt8, size: Int, _ scopes: Set<Scope>) {
        precondition(size < 1 << 14, "an ioctl argument is below 16 KiB")
        self.name = name
        number = direction.rawValue << 30 | UInt32(size) << 16 | 0xAE << 8 | UInt32(ordinal)
        self.scopes = scopes
    }

    /// Which way the argument travels, in bits 31:30 of the number.
    enum Direction: UInt32 {
        case none = 0
        case write = 1
        case read = 2
        case readWrite = 3
    }
}

extension KVMRequest {
    /// Every request that this library makes. A seccomp filter that allows these allows KVM.
    public static let all: [KVMRequest] = [
        Ioctls.getAPIVersion, Ioctls.createVM, Ioctls.checkExtension, Ioctls.getVCPUMmapSize,
        Ioctls.createVCPU, Ioctls.setTSCFrequency, Ioctls.setUserMemoryRegion.request,
        Ioctls.setUserMemoryRegion2.request,
        Ioctls.enableCapability.request, Ioctls.memoryEncryptOperation.request, Ioctls.setMemoryAttributes.request,
        Ioctls.createGuestMemfd.request, Ioctls.run, Ioctls.getRegisters.request, Ioctls.setRegisters.request,
        Ioctls.getSpecialRegisters.request, Ioctls.setSpecialRegisters.request, Ioctls.setCPUID2.request,
        Ioctls.preFaultMemory.request, Ioctls.getStatsFD,
    ]

    /// The requests of one kind of descriptor.
    public static func made(on scope: Scope) -> [KVMRequest] { all.filter { $0.scopes.contains(scope) } }

    /// The numbers of all requests, for a filter that cannot distinguish descriptors.
    public static let allNumbers: Set<UInt32> = Set(all.map(\.number))
}
