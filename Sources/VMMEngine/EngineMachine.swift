internal import CKVM
internal import CLinux
internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXEmulator

/// One TD of a VMM. A VMM's reset makes another.
final class EngineMachine: EngineObject, @unchecked Sendable {
    /// Of a TD's time-stamp counter unless the VMM asks for another, in kHz.
    static let standardKilohertz: UInt32 = 2_000_000

    let emulated: EmulatedVirtualMachine
    /// Counted from 1.
    let generation: Int
    let counts = MachineCounts()
    /// The TD's frequency in kHz, a multiple of 25,000 as the module has it.
    let kilohertz = Atomic(EngineMachine.standardKilohertz)
    let vcpus = Mutex<[EngineVCPU]>([])
    /// The descriptor of the VM, and each of its statistics: the kernel's VM lives as long as one of them.
    private let uses = Atomic(1)

    init(_ emulated: EmulatedVirtualMachine, generation: Int) {
        self.emulated = emulated
        self.generation = generation
    }

    func retain() { uses.wrappingAdd(1, ordering: .relaxed) }

    override func release() {
        if uses.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { emulated.close() }
    }
}

/// A guest_memfd of a TD.
final class EngineFile: EngineObject, @unchecked Sendable {
    let memory: any KVMGuestMemory
    let machine: EngineMachine
    let isMappable: Bool

    init(_ memory: any KVMGuestMemory, _ machine: EngineMachine, isMappable: Bool) {
        self.memory = memory
        self.machine = machine
        self.isMappable = isMappable
    }

    override func release() { memory.close() }
}

/// KVM's statistics of a VM or vCPU, which keep the VM.
final class EngineStatistics: EngineObject, @unchecked Sendable {
    private let machine: EngineMachine

    init(_ machine: EngineMachine) {
        self.machine = machine
        machine.retain()
    }

    override func release() { machine.release() }
}

extension VMMEngine {
    /// What a TD's VM answers in another way than the real one: besides, READONLY_MEM, X86_SMM and MULTI_ADDRESS_SPACE.
    private static let ownAnswers = ownCapabilities.union(
        [.vmTypes] + [81, 117, 118].map { KVMCapability(rawValue: $0) })
    /// Capabilities whose effect the emulator has; the real VM gets them, too, and what it makes of them is its own
    /// matter.
    private static let ownEffects: Set<UInt32> = [
        KVMCapability.splitIRQChip.rawValue, KVMCapability.exitHypercall.rawValue,
        KVMCapability.apicBusCycles.rawValue, KVMCapability.maximumVCPUID.rawValue,
    ]
    private static let createIRQChip: UInt32 = 0xAE60
    private static let signalMSI: UInt32 = 0x4020_AEA5
    private static let irqLine: UInt32 = 0x4008_AE61

    func machine(
        _ machine: EngineMachine, _ number: Int32, _ request: UInt32, _ argument: UInt
    ) throws(EngineErrno) -> Int32? {
        switch request {
        case Ioctls.checkExtension.number:
            let capability = KVMCapability(rawValue: UInt32(truncatingIfNeeded: argument))
            guard Self.ownAnswers.contains(capability) else { return nil }
            return Int32(clamping: try kvm { () throws(KVMError) in try machine.emulated.check(capability) })
        case Ioctls.enableCapability.request.number: return try enable(machine, number, request, argument)
        case Ioctls.createVCPU.number: return try createVCPU(machine, number, argument)
        case Ioctls.setUserMemoryRegion.request.number: return try setRegion(machine, number, argument)
        case Ioctls.setUserMemoryRegion2.request.number: return try setRegion2(machine, number, argument)
        case Ioctls.setMemoryAttributes.request.number: return try setAttributes(machine, argument)
        case Ioctls.createGuestMemfd.request.number: return try createFile(machine, argument)
        case Ioctls.memoryEncryptOperation.request.number: return try command(machine, argument)
        case Ioctls.setTSCFrequency.number: return try setFrequency(machine, number, request, argument)
        case Ioctls.getStatsFD.number: return statistics(machine, number, request)
        // A TD has its APICs in the kernel and its IOAPIC in the VMM.
        case Self.createIRQChip: throw .invalid
        case Self.signalMSI, Self.irqLine:
            let result = kernelAnswer(number, request, argument)
            // Nothing is delivered; a guest that waits is woken.
            if result >= 0 { for vcpu in machine.vcpus.withLock({ $0 }) { vcpu.emulated.postEvent() } }
            return result
        default: return nil
        }
    }

    func statistics(_ machine: EngineMachine, _ number: Int32, _ request: UInt32) -> Int32 {
        let result = kernelAnswer(number, request, 0)
        if result >= 0 { track(result, EngineStatistics(machine)) }
        return result
    }

    private func enable(
        _ machine: EngineMachine, _ number: Int32, _ request: UInt32, _ argument: UInt
    ) throws(EngineErrno) -> Int32? {
        var block = kvm_enable_cap()
        try memory.load(argument, &block)
        guard block.flags == 0 else { throw .invalid }
        guard Self.ownEffects.contains(block.cap) else { return nil }
        let arguments = [block.args.0, block.args.1, block.args.2, block.args.3]
        try kvm { () throws(KVMError) in
            try machine.emulated.enable(KVMCapability(rawValue: block.cap), arguments)
        }
        let result = kernelAnswer(number, request, argument)
        // Without its irqchip the real VM, which the VMM's interrupts go to, is of no use.
        return block.cap == KVMCapability.splitIRQChip.rawValue ? result : 0
    }

    // MARK: Slots

    private func setRegion(
        _ machine: EngineMachine, _ number: Int32, _ argument: UInt
    ) throws(EngineErrno) -> Int32 {
        var region = kvm_userspace_memory_region()
        try memory.load(argument, &region)
        guard region.flags & ~3 == 0 else { throw .invalid }
        try setSlot(
            machine, id: region.slot, flags: region.flags, start: region.guest_phys_addr, size: region.memory_size,
            address: region.userspace_addr, file: nil, offset: 0)
        return forwarded(number, region)
    }

    private func setRegion2(
        _ machine: EngineMachine, _ number: Int32, _ argument: UInt
    ) throws(EngineErrno) -> Int32 {
        var region = tdxd_kvm_userspace_memory_region2()
        try memory.load(argument, &region)
        guard region.flags & ~7 == 0 else { throw .invalid }
        guard region.flags & UInt32(TDXD_KVM_MEM_GUEST_MEMFD) != 0, region.memory_size > 0 else {
            try setSlot(
                machine, id: region.slot, flags: region.flags & 3, start: region.guest_phys_addr,
                size: region.memory_size, address: region.userspace_addr, file: nil, offset: 0)
            var plain = kvm_userspace_memory_region()
            plain.slot = region.slot
            plain.flags = region.flags & 3
            plain.guest_phys_addr = region.guest_phys_addr
            plain.memory_size = region.memory_size
            plain.userspace_addr = region.userspace_addr
            return forwarded(number, plain)
        }
        let given = Int32(bitPattern: region.guest_memfd)
        guard let file = object(given) as? EngineFile else {
            throw given < 0 || tdxd_get_close_on_exec(given) < 0 ? .badDescriptor : .invalid
        }
        try setSlot(
            machine, id: region.slot, flags: region.flags & 3, start: region.guest_phys_addr, size: region.memory_size,
            address: region.userspace_addr, file: file.memory, offset: region.guest_memfd_offset)
        return 0
    }

    private func setSlot(
        _ machine: EngineMachine, id: UInt32, flags: UInt32, start: UInt64, size: UInt64, address: UInt64,
        file: (any KVMGuestMemory)?, offset: UInt64
    ) throws(EngineErrno) {
        guard start <= UInt64.max - size else { throw .invalid }
        let range = GuestPhysicalRange(start: GuestPhysicalAddress(start), size: ByteCount(size))
        try kvm { () throws(KVMError) in
            try machine.emulated.setMemorySlot(
                MemorySlot(
                    id: id, range: range, userspaceAddress: UInt(address), guestMemory: file,
                    guestMemoryOffset: ByteCount(offset), flags: MemorySlot.Flags(rawValue: flags)))
        }
    }

    /// Where guest memory is memfds the emulator has no real VM: slots without it go to the VMM's, for its dirty log.
    private func forwarded(_ number: Int32, _ region: kvm_userspace_memory_region) -> Int32 {
        guard backing == .memfd else { return 0 }
        var region = region
        let result = withUnsafeMutablePointer(to: &region) {
            tdxd_ioctl_pointer(number, Ioctls.setUserMemoryRegion.request.number, $0)
        }
        // The deletion of a slot with guest memory, which the real VM never had.
        return result < 0 && region.memory_size == 0 ? 0 : result
    }

    private func setAttributes(_ machine: EngineMachine, _ argument: UInt) throws(EngineErrno) -> Int32 {
        var block = tdxd_kvm_memory_attributes()
        try memory.load(argument, &block)
        let page = UInt64(pageSize)
        guard block.flags == 0, block.attributes & ~UInt64(TDXD_KVM_MEMORY_ATTRIBUTE_PRIVATE) == 0, block.size > 0,
            block.address <= UInt64.max - block.size, block.address % page == 0, block.size % page == 0
        else { throw .invalid }
        let isPrivate = block.attributes != 0
        let range = GuestPhysicalRange(start: GuestPhysicalAddress(block.address), size: ByteCount(block.size))
        try kvm { () throws(KVMError) in try machine.emulated.setMemoryAttributes(range, isPrivate: isPrivate) }
        machine.counts.add(conversionToShared: !isPrivate, bytes: block.size)
        return 0
    }

    private func createFile(_ machine: EngineMachine, _ argument: UInt) throws(EngineErrno) -> Int32 {
        var block = tdxd_kvm_create_guest_memfd()
        try memory.load(argument, &block)
        let flags = GuestMemoryFlags(rawValue: block.flags)
        let (file, copy) = try kvm { () throws(KVMError) in
            let file = try machine.emulated.createGuestMemory(size: ByteCount(block.size), flags: flags)
            do throws(KVMError) {
                return (file, try file.duplicateDescriptor().relinquish())
            } catch {
                file.close()
                throw error
            }
        }
        track(copy, EngineFile(file, machine, isMappable: flags.contains(.mmap)))
        machine.counts.add(guestMemory: block.size)
        return copy
    }

    private func setFrequency(
        _ machine: EngineMachine, _ number: Int32, _ request: UInt32, _ argument: UInt
    ) throws(EngineErrno) -> Int32 {
        let wanted = UInt32(truncatingIfNeeded: argument)
        let chosen = wanted == 0 ? EngineMachine.standardKilohertz : wanted
        try kvm { () throws(KVMError) in try machine.emulated.setTSCFrequency(kilohertz: chosen) }
        // The module counts in units of 25 MHz.
        machine.kilohertz.store(chosen / 25_000 * 25_000, ordering: .relaxed)
        _ = kernelAnswer(number, request, argument)
        return 0
    }
}
