import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

@testable import TDXEmulator

/// The program with which a real vCPU copies pages of a software-protected VM.
@Suite struct GuestCopierTests {
    @Test(
        .enabled(if: TestHost.available.contains(.softwareProtected), "needs a kernel with KVM_X86_SW_PROTECTED_VM"),
        arguments: [UInt64(0), 0x1F_F000, 0x20_0000, 5 << 30])
    func `A vCPU copies private pages in and out, also above 4 GiB`(address: UInt64) throws {
        let vm = try TestHost.kernel!.createVirtualMachine(.softwareProtected)
        let memory = try vm.createGuestMemory(size: .mebibytes(8), flags: [])
        let shared = try MemoryFile(name: "shared", size: .mebibytes(8))
        let mapping = try shared.map(length: shared.size)
        let range = GuestPhysicalRange(start: GuestPhysicalAddress(address & ~0x3FFF_FFFF), size: memory.size)
        try vm.setMemorySlot(
            MemorySlot(
                id: 0, range: range, userspaceAddress: UInt(bitPattern: mapping.baseAddress), guestMemory: memory))
        try vm.setMemoryAttributes(range, isPrivate: true)
        let vcpu = try vm.createVCPU(id: 0)
        let copier = try GuestCopier(vm, vcpu: vcpu, at: GuestPhysicalAddress(0xFEF0_0000))
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { page.deallocate() }
        let target = GuestPhysicalAddress(address)
        // Private pages start as zeros.
        for index in 0..<4096 { page[index] = 0xEE }
        try copier.copy(.fetch, target, page)
        #expect(page.allSatisfy { $0 == 0 })
        for index in 0..<4096 { page[index] = UInt8(truncatingIfNeeded: index &* 13) }
        let written = Array(page)
        try copier.copy(.store, target, page)
        for index in 0..<4096 { page[index] = 0 }
        try copier.copy(.fetch, target, page)
        #expect(Array(page) == written)
        // The shared side never sees the bytes.
        let offset = Int(address - range.start.rawValue)
        #expect(mapping.baseAddress.load(fromByteOffset: offset + 1, as: UInt8.self) == 0)
        copier.close()
        vcpu.close()
        memory.close()
        vm.close()
    }
}
