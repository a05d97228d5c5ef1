import KVM
import LinuxSystem
import MemoryUnits
import Testing

/// A TD by the seam alone, on whichever kernel: one guest memory file in slot 0 from guest-physical 0 on.
final class SeamTD {
    let vm: any KVMVirtualMachine
    private(set) var vcpus: [any KVMVirtualCPU] = []
    let memory: any KVMGuestMemory
    let shared: FileMapping
    let size: ByteCount

    var whole: GuestPhysicalRange { GuestPhysicalRange(start: GuestPhysicalAddress(0), size: size) }

    init(_ system: any KVMSystem, size: ByteCount = .mebibytes(4), vcpus count: UInt32 = 1) throws {
        self.size = size
        vm = try system.createVirtualMachine(.tdx)
        try vm.enable(.splitIRQChip, [24])
        try vm.enable(.exitHypercall, [1 << 12])
        let parameters = TestTD.parameters()
        try vm.tdxInitialize(parameters)
        for id in 0..<count {
            let vcpu = try vm.createVCPU(id: id)
            try vcpu.setCPUID(TrustDomainCPUID.ofVCPU(told: vcpu.tdxCPUID(), guestAddressBits: 48))
            try vcpu.tdxInitialize(initialRCX: 0)
            vcpus.append(vcpu)
        }
        memory = try vm.createGuestMemory(size: size, flags: [])
        shared = try MemoryFile(name: "shared", size: size).map(length: size)
        try vm.setMemorySlot(
            MemorySlot(
                id: 0, range: whole, userspaceAddress: UInt(bitPattern: shared.baseAddress), guestMemory: memory))
        try vm.setMemoryAttributes(whole, isPrivate: true)
        try vm.tdxFinalize()
    }

    /// Maps all of its memory, page by page.
    func populate() throws { try vcpus[0].preFault(whole) }

    func close() {
        memory.close()
        vcpus.forEach { $0.close() }
        vm.close()
    }
}
