internal import KVM
internal import MemoryUnits

/// What lies under one emulated VM: where its private pages are real, and which kernel sees its slots and attributes.
protocol BackingVM: AnyObject, Sendable {
    /// Whether the host can map what `createMemory` makes. Where it cannot, only a vCPU reads and writes the pages.
    var isHostWritable: Bool { get }
    func createMemory(size: ByteCount) throws(KVMError) -> any KVMGuestMemory
    /// `memory` is what `createMemory` made.
    func setMemorySlot(_ slot: MemorySlot) throws(KVMError)
    func deleteMemorySlot(_ id: UInt32) throws(KVMError)
    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError)
    /// Drops the VM underneath.
    func close()
}

/// A real VM of type 0 or 1.
final class KernelBackingVM: BackingVM {
    let machine: any KVMVirtualMachine
    let isHostWritable: Bool
    private let flags: GuestMemoryFlags

    /// - Parameter type: `.default`, whose guest_memfds the host can map and write, or `.softwareProtected`.
    init(_ system: any KVMSystem, type: VMType) throws(KVMError) {
        machine = try system.createVirtualMachine(type)
        isHostWritable = type == .default
        flags = isHostWritable ? [.mmap, .initShared] : []
    }

    func createMemory(size: ByteCount) throws(KVMError) -> any KVMGuestMemory {
        try machine.createGuestMemory(size: size, flags: flags)
    }

    func setMemorySlot(_ slot: MemorySlot) throws(KVMError) { try machine.setMemorySlot(slot) }

    func deleteMemorySlot(_ id: UInt32) throws(KVMError) { try machine.deleteMemorySlot(id) }

    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {
        // A type-0 VM has no attributes; there the emulator's own map is all there is.
        guard !isHostWritable else { return }
        try machine.setMemoryAttributes(range, isPrivate: isPrivate)
    }

    func close() { machine.close() }
}

/// No VM at all: private pages are pages of sealed memfds, and the emulator's own checks are the only ones.
final class MemfdBackingVM: BackingVM {
    var isHostWritable: Bool { true }

    func createMemory(size: ByteCount) throws(KVMError) -> any KVMGuestMemory { try MemfdGuestMemory(size: size) }

    func setMemorySlot(_ slot: MemorySlot) throws(KVMError) {}
    func deleteMemorySlot(_ id: UInt32) throws(KVMError) {}
    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {}
    func close() {}
}
