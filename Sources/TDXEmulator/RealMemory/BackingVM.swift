internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// What lies under one emulated VM: where its private pages are real, and which kernel sees its slots and attributes.
protocol BackingVM: AnyObject, Sendable {
    /// Whether the host can map what `createMemory` makes. Where it cannot, only a vCPU reads and writes the pages.
    var isHostWritable: Bool { get }
    func createMemory(size: ByteCount) throws(KVMError) -> any KVMGuestMemory
    /// `memory` is what `createMemory` made.
    func setMemorySlot(_ slot: MemorySlot) throws(KVMError)
    func deleteMemorySlot(_ id: UInt32) throws(KVMError)
    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError)
    /// Copies one page of private memory that the host cannot map; never called where `isHostWritable`.
    func copyPrivatePage(
        _ direction: GuestCopier.Direction, _ address: GuestPhysicalAddress, _ page: UnsafeMutableRawBufferPointer
    ) throws(KVMError)
    /// See `KVMVirtualMachine.retainedDescriptor`.
    func retainedDescriptor() throws(KVMError) -> RetainedDescriptor?
    /// Drops the VM underneath.
    func close()
}

extension BackingVM {
    /// Sealed memfds need no VM.
    func retainedDescriptor() throws(KVMError) -> RetainedDescriptor? { nil }
}

/// A real VM of type 0 or 1.
final class KernelBackingVM: BackingVM, @unchecked Sendable {
    let machine: any KVMVirtualMachine
    let isHostWritable: Bool
    private let flags: GuestMemoryFlags
    private let copierLock = Lock()
    // Sound: the next three are only touched inside `copierLock`.
    private var copier: GuestCopier?
    private var copyingVCPU: (any KVMVirtualCPU)?
    private var occupied: [UInt32: GuestPhysicalRange] = [:]

    /// - Parameter type: `.default`, whose guest_memfds the host can map and write, or `.softwareProtected`.
    init(_ system: any KVMSystem, type: VMType) throws(KVMError) {
        machine = try system.createVirtualMachine(type)
        isHostWritable = type == .default
        flags = isHostWritable ? [.mmap, .initShared] : []
    }

    func createMemory(size: ByteCount) throws(KVMError) -> any KVMGuestMemory {
        try machine.createGuestMemory(size: size, flags: flags)
    }

    func setMemorySlot(_ slot: MemorySlot) throws(KVMError) {
        try copierLock.withLock { () throws(KVMError) in
            // The copier gives way to whatever the VMM puts in its place.
            if let copier, copier.range.overlaps(slot.range) || slot.id == GuestCopier.slotID {
                copier.close()
                self.copier = nil
            }
            try machine.setMemorySlot(slot)
            occupied[slot.id] = slot.range
        }
    }

    func deleteMemorySlot(_ id: UInt32) throws(KVMError) {
        try copierLock.withLock { () throws(KVMError) in
            try machine.deleteMemorySlot(id)
            occupied[id] = nil
        }
    }

    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {
        // A type-0 VM has no attributes; there the emulator's own map is all there is.
        guard !isHostWritable else { return }
        try machine.setMemoryAttributes(range, isPrivate: isPrivate)
    }

    func copyPrivatePage(
        _ direction: GuestCopier.Direction, _ address: GuestPhysicalAddress, _ page: UnsafeMutableRawBufferPointer
    ) throws(KVMError) {
        let copier = try copierLock.withLock { () throws(KVMError) in try currentCopier() }
        try copier.copy(direction, address, page)
    }

    func retainedDescriptor() throws(KVMError) -> RetainedDescriptor? { try machine.retainedDescriptor() }

    func close() {
        copierLock.withLock {
            copier?.close()
            copier = nil
            copyingVCPU?.close()
        }
        machine.close()
    }

    /// `copierLock` is held.
    private func currentCopier() throws(KVMError) -> GuestCopier {
        if let copier { return copier }
        if copyingVCPU == nil { copyingVCPU = try machine.createVCPU(id: 0) }
        // From below 4 GiB downwards: the first 64 KiB where the VM has nothing.
        var base: UInt64 = 0xFEF0_0000
        while base > 0 {
            let place = GuestPhysicalRange(start: GuestPhysicalAddress(base), size: GuestCopier.size)
            guard let obstacle = occupied.values.first(where: { $0.overlaps(place) }) else {
                let made = try GuestCopier(machine, vcpu: copyingVCPU!, at: place.start)
                copier = made
                return made
            }
            let below = obstacle.start.rawValue & ~(GuestCopier.size.rawValue - 1)
            guard below >= GuestCopier.size.rawValue else { break }
            base = below - GuestCopier.size.rawValue
        }
        throw KVMError("KVM_SET_USER_MEMORY_REGION2", .noSpace, detail: "no room below 4 GiB for the page copier")
    }
}

/// No VM at all: private pages are pages of sealed memfds, and the emulator's own checks are the only ones.
final class MemfdBackingVM: BackingVM {
    var isHostWritable: Bool { true }

    func createMemory(size: ByteCount) throws(KVMError) -> any KVMGuestMemory { try MemfdGuestMemory(size: size) }

    func setMemorySlot(_ slot: MemorySlot) throws(KVMError) {}
    func deleteMemorySlot(_ id: UInt32) throws(KVMError) {}
    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {}
    func copyPrivatePage(
        _ direction: GuestCopier.Direction, _ address: GuestPhysicalAddress, _ page: UnsafeMutableRawBufferPointer
    ) throws(KVMError) {
        preconditionFailure("memfd pages are mapped")
    }
    func close() {}
}
