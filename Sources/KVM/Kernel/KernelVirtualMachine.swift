package import CKVM
public import LinuxSystem
public import MemoryUnits
internal import SystemPackage

/// A VM of /dev/kvm. Only the process that created it may call it; EIO from any other.
public final class KernelVirtualMachine: KVMVirtualMachine {
    public let type: VMType
    /// The name of the VM's directory in debugfs under kvm/, "PID-FD", which lives as long as the kernel's VM object.
    public let debugName: String
    let descriptor: KVMDescriptor
    /// Bytes of a vCPU's kvm_run mapping.
    private let runSize: UInt64

    package convenience init(
        _ descriptor: consuming OwnedDescriptor, type: VMType, runSize: UInt64, door: @escaping KVMDoor
    ) {
        let name = "\(CurrentProcess.pid)-\(descriptor.rawValue)"
        self.init(
            descriptor: KVMDescriptor(descriptor, kind: "VM", door: door), type: type, runSize: runSize, debugName: name
        )
    }

    private init(descriptor: KVMDescriptor, type: VMType, runSize: UInt64, debugName: String) {
        self.type = type
        self.runSize = runSize
        self.debugName = debugName
        self.descriptor = descriptor
    }

    public func check(_ capability: KVMCapability) throws(KVMError) -> Int {
        Int(
            try descriptor.call(Ioctls.checkExtension, UInt64(capability.rawValue), "capability \(capability.rawValue)")
        )
    }

    public func enable(_ capability: KVMCapability, _ arguments: [UInt64]) throws(KVMError) {
        precondition(arguments.count <= 4, "KVM_ENABLE_CAP takes four arguments")
        var payload = kvm_enable_cap()
        payload.cap = capability.rawValue
        let padded = arguments + [UInt64](repeating: 0, count: 4 - arguments.count)
        payload.args = (padded[0], padded[1], padded[2], padded[3])
        try descriptor.call(
            Ioctls.enableCapability, &payload, "capability \(capability.rawValue), arguments \(arguments)")
    }

    public func createGuestMemory(
        size: ByteCount, flags: GuestMemoryFlags
    ) throws(KVMError) -> any KVMGuestMemory {
        try createKernelGuestMemory(size: size, flags: flags)
    }

    /// As `createGuestMemory`, for what only the kernel's own guest_memfds can do.
    package func createKernelGuestMemory(
        size: ByteCount, flags: GuestMemoryFlags
    ) throws(KVMError) -> KernelGuestMemory {
        let file = OwnedDescriptor(taking: try createRawGuestMemory(size: size.rawValue, flags: flags.rawValue))
        do throws(LinuxError) {
            // Unlike VM and vCPU descriptors a guest_memfd comes without close-on-exec. A child that inherited it would
            // keep the memory, the VM and, on TDX, its key id.
            try file.setCloseOnExec(true)
        } catch {
            throw KVMError(error)
        }
        return try KernelGuestMemory(taking: file)
    }

    /// KVM_CREATE_GUEST_MEMFD and nothing else: the descriptor is not close-on-exec yet.
    package func createRawGuestMemory(size: UInt64, flags: UInt64) throws(KVMError) -> Int32 {
        var payload = tdxd_kvm_create_guest_memfd()
        payload.size = size
        payload.flags = flags
        return try descriptor.call(Ioctls.createGuestMemfd, &payload, "\(ByteCount(size)), flags \(flags)")
    }

    public func setMemorySlot(_ slot: MemorySlot) throws(KVMError) {
        precondition(!slot.range.isEmpty, "a slot of size 0 means deletion; use deleteMemorySlot")
        guard let memory = slot.guestMemory else {
            var region = kvm_userspace_memory_region()
            region.slot = slot.id
            region.flags = slot.flags.rawValue
            region.guest_phys_addr = slot.range.start.rawValue
            region.memory_size = slot.range.size.rawValue
            region.userspace_addr = UInt64(slot.userspaceAddress)
            try descriptor.call(Ioctls.setUserMemoryRegion, &region, "slot \(slot.id), \(slot.range)")
            return
        }
        let detail = "slot \(slot.id), \(slot.range), guest_memfd offset \(slot.guestMemoryOffset)"
        guard let memory = memory as? KernelGuestMemory else {
            throw KVMError(
                Ioctls.setUserMemoryRegion2.request.name, .invalidArgument,
                detail: detail + ": the guest memory is not the kernel's")
        }
        // Linux 6.18 computes offset + size with a sign and lets a huge offset through, so it is tested here.
        guard slot.guestMemoryOffset <= memory.size, slot.range.size <= memory.size - slot.guestMemoryOffset else {
            throw KVMError(
                Ioctls.setUserMemoryRegion2.request.name, .invalidArgument,
                detail: detail + ": beyond the file's \(memory.size)")
        }
        try memory.use(Ioctls.setUserMemoryRegion2.request.name) { number throws(KVMError) in
            var region = tdxd_kvm_userspace_memory_region2()
            region.slot = slot.id
            region.flags = UInt32(TDXD_KVM_MEM_GUEST_MEMFD) | slot.flags.rawValue
            region.guest_phys_addr = slot.range.start.rawValue
            region.memory_size = slot.range.size.rawValue
            region.userspace_addr = UInt64(slot.userspaceAddress)
            region.guest_memfd = UInt32(number)
            region.guest_memfd_offset = slot.guestMemoryOffset.rawValue
            try setRegion(&region, detail)
        }
    }

    public func deleteMemorySlot(_ id: UInt32) throws(KVMError) {
        var region = kvm_userspace_memory_region()
        region.slot = id
        try descriptor.call(Ioctls.setUserMemoryRegion, &region, "delete slot \(id)")
    }

    /// KVM_SET_USER_MEMORY_REGION with whatever is in the structure.
    package func setRegion(_ region: inout kvm_userspace_memory_region) throws(KVMError) {
        try descriptor.call(Ioctls.setUserMemoryRegion, &region)
    }

    /// KVM_SET_USER_MEMORY_REGION2 with whatever is in the structure.
    package func setRegion(
        _ region: inout tdxd_kvm_userspace_memory_region2, _ detail: @autoclosure () -> String = ""
    ) throws(KVMError) {
        try descriptor.call(Ioctls.setUserMemoryRegion2, &region, detail())
    }

    public func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {
        var payload = tdxd_kvm_memory_attributes()
        payload.address = range.start.rawValue
        payload.size = range.size.rawValue
        payload.attributes = isPrivate ? UInt64(TDXD_KVM_MEMORY_ATTRIBUTE_PRIVATE) : 0
        try descriptor.call(Ioctls.setMemoryAttributes, &payload, "\(range) to \(isPrivate ? "private" : "shared")")
    }

    public func setTSCFrequency(kilohertz: UInt32) throws(KVMError) {
        try descriptor.call(Ioctls.setTSCFrequency, UInt64(kilohertz), "\(kilohertz) kHz")
    }

    public func createVCPU(id: UInt32) throws(KVMError) -> any KVMVirtualCPU {
        let number = try descriptor.call(Ioctls.createVCPU, UInt64(id), "vCPU \(id)")
        return try KernelVirtualCPU(
            OwnedDescriptor(taking: number), id: id, runSize: runSize, door: descriptor.door)
    }

    /// KVM_GET_STATS_FD: KVM's counters of this VM. They can be read from any process, and keep the VM alive.
    public func statistics() throws(KVMError) -> VMStatistics {
        VMStatistics(OwnedDescriptor(taking: try descriptor.call(Ioctls.getStatsFD)))
    }

    public func retainedDescriptor() throws(KVMError) -> RetainedDescriptor? {
        try descriptor.use("fcntl(F_DUPFD_CLOEXEC)") { number throws(KVMError) in
            do throws(LinuxError) {
                return try RetainedDescriptor(duplicating: number)
            } catch {
                throw KVMError(error)
            }
        }
    }

    public func close() { descriptor.close() }

    /// Runs `body` with the descriptor's number, for what only its holder can do: hand it to another process.
    package func withNumber<Result>(_ body: (Int32) throws -> Result) throws -> Result? {
        try descriptor.withNumber(body)
    }
}
