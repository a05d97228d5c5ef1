import CKVM
import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// The kernel's set_memory_region_test, row by row: rules of slots and their bindings.
@Suite(.enabled(if: Machine.hasGuestMemfd, "the machine has no guest_memfd"))
struct MemorySlotTests {
    private let page: UInt64 = 4096
    private let size: UInt64 = 2 << 20

    @Test func `R1 a vCPU without any memory ends in an internal error`() throws {
        let vm = try Machine.createVM()
        // Where KVM shadows page tables, only a change of slots gives the VM room for them; without, ENOSPC comes
        // first.
        try vm.setMemorySlot(MemorySlot(id: 0, range: GuestPhysicalRange(0, page), userspaceAddress: 0))
        try vm.deleteMemorySlot(0)
        let exit = try vm.createVCPU(id: 0).run(within: 60_000)
        guard case .internalError = exit else {
            Issue.record("\(exit)")
            return
        }
    }

    @Test func `R2 the first form of the call takes no flags but LOG_DIRTY and READONLY`() throws {
        let vm = try Machine.createVM()
        for bit in 0..<32 {
            var region = kvm_userspace_memory_region()
            region.flags = 1 << UInt32(bit)
            region.memory_size = page
            if bit < 2 {
                try vm.setRegion(&region)
                try vm.deleteMemorySlot(0)
            } else {
                expectRefusal(.invalidArgument) { try vm.setRegion(&region) }
            }
        }
    }

    @Test func `R3 the second form takes GUEST_MEMFD as well, and nothing else`() throws {
        let vm = try Machine.createVM()
        for bit in 3..<32 {
            var region = tdxd_kvm_userspace_memory_region2()
            region.flags = 1 << UInt32(bit)
            region.memory_size = page
            expectRefusal(.invalidArgument) { try vm.setRegion(&region) }
        }
    }

    @Test func `R4 guest_memfd goes with neither dirty logging nor read-only`() throws {
        let (vm, memory) = try bound()
        for flag in [TDXD_KVM_MEM_LOG_DIRTY_PAGES, TDXD_KVM_MEM_READONLY] {
            var region = try self.region(memory)
            region.flags |= UInt32(flag)
            expectRefusal(.invalidArgument) { try vm.setRegion(&region) }
        }
    }

    @Test(.enabled(if: !Machine.isSlow, "adding 32,764 slots takes minutes on an emulated processor"))
    func `R5 as many slots as announced can be added, and not one more`() throws {
        let vm = try Machine.createVM()
        let slots = UInt32(try vm.check(.numberOfMemslots))
        for id in 0..<slots {
            try vm.setMemorySlot(
                MemorySlot(id: id, range: GuestPhysicalRange(UInt64(id) * page, page), userspaceAddress: 0))
        }
        expectRefusal(.invalidArgument) {
            try vm.setMemorySlot(
                MemorySlot(id: slots, range: GuestPhysicalRange(UInt64(slots) * page, page), userspaceAddress: 0))
        }
    }

    @Test(arguments: GuestMemoryKind.all)
    func `R6 only a guest_memfd of the same VM can be bound`(kind: GuestMemoryKind) throws {
        let (vm, memory) = try kind.create(ByteCount(size))
        let (_, foreign) = try kind.create(ByteCount(size))
        let device = try OwnedDescriptor.open(path: "/dev/kvm", .readWrite)
        let ordinary = try MemoryFile(name: "ordinary", size: ByteCount(size)).duplicateDescriptor()
        let foreignFile = try foreign.duplicateDescriptor()
        for number in [device.rawValue, ordinary.rawValue, foreignFile.rawValue] {
            var region = try self.region(memory)
            region.guest_memfd = UInt32(number)
            expectRefusal(.invalidArgument) { try vm.setRegion(&region) }
        }
        var region = try self.region(memory)
        region.guest_memfd = UInt32(Int32.max)
        expectRefusal(.badFileDescriptor) { try vm.setRegion(&region) }
        expectRefusal(.invalidArgument) { try vm.setMemorySlot(slot(foreign)) }
        try vm.setMemorySlot(slot(memory))
    }

    @Test(arguments: GuestMemoryKind.all)
    func `R7 every unaligned offset into the file is refused`(kind: GuestMemoryKind) throws {
        let (vm, memory) = try kind.create(ByteCount(size))
        try memory.use("test") { number throws(KVMError) in
            for offset in 1..<page {
                var region = tdxd_kvm_userspace_memory_region2()
                region.flags = UInt32(TDXD_KVM_MEM_GUEST_MEMFD)
                region.memory_size = page
                region.guest_memfd = UInt32(number)
                region.guest_memfd_offset = offset
                expectRefusal(.invalidArgument) { try vm.setRegion(&region) }
            }
        }
    }

    @Test(arguments: GuestMemoryKind.all)
    func `R8 a bound file may be closed before its VM is freed`(kind: GuestMemoryKind) throws {
        let (vm, memory) = try kind.create(ByteCount(size))
        try vm.setMemorySlot(slot(memory))
        memory.close()
        expectRefusal(.badFileDescriptor) { _ = try memory.residentBytes(FileRange(0, size)) }
        vm.close()
    }

    @Test(arguments: GuestMemoryKind.all)
    func `R9 two slots cannot share a part of a file: EEXIST since 7.x, EINVAL before`(kind: GuestMemoryKind) throws {
        let (vm, memory) = try kind.create(ByteCount(2 * size))
        try vm.setMemorySlot(slot(memory, id: 0, at: 4 * size, offset: 0))
        try vm.setMemorySlot(slot(memory, id: 1, at: 6 * size, offset: size))
        try vm.deleteMemorySlot(0)
        // Front and back of the first slot's new range lie in what the second slot has bound.
        for (offset, length) in [(page, size), (size / 2, 2 * size - size / 2), (size, page)] {
            expectRefusal(.fileExists, .invalidArgument) {
                try vm.setMemorySlot(slot(memory, id: 0, at: 0, offset: offset, size: length))
            }
        }
        try vm.setMemorySlot(slot(memory, id: 0, at: 4 * size, offset: 0))
    }

    @Test(arguments: GuestMemoryKind.all)
    func `R10 two slots cannot share guest-physical addresses`(kind: GuestMemoryKind) throws {
        let (vm, memory) = try kind.create(ByteCount(2 * size))
        try vm.setMemorySlot(slot(memory, id: 0, at: 4 * size, offset: 0))
        try vm.setMemorySlot(slot(memory, id: 1, at: 5 * size, offset: size))
        try vm.deleteMemorySlot(0)
        for start in [5 * size - page, 6 * size - page] {
            expectRefusal(.fileExists) { try vm.setMemorySlot(slot(memory, id: 0, at: start, offset: 0)) }
        }
        try vm.setMemorySlot(slot(memory, id: 0, at: 4 * size, offset: 0))
    }

    @Test(arguments: GuestMemoryKind.all)
    func `a slot with guest memory can be neither changed nor moved, and an absent one not deleted`(
        kind: GuestMemoryKind
    ) throws {
        let (vm, memory) = try kind.create(ByteCount(size))
        try vm.setMemorySlot(slot(memory, size: page))
        expectRefusal(.invalidArgument) { try vm.setMemorySlot(slot(memory, size: page)) }
        expectRefusal(.invalidArgument) { try vm.setMemorySlot(slot(memory, at: 0, size: page)) }
        try vm.deleteMemorySlot(0)
        expectRefusal(.invalidArgument) { try vm.deleteMemorySlot(0) }
    }

    @Test func `a bind of another implementation's memory is refused before the kernel sees it`() throws {
        let vm = try Machine.createVM()
        expectRefusal(.invalidArgument) {
            try vm.setMemorySlot(
                MemorySlot(
                    id: 0, range: GuestPhysicalRange(0, page), userspaceAddress: 0, guestMemory: ForeignMemory()))
        }
    }

    @Test func `a default VM keeps no attributes`() throws {
        let vm = try Machine.createVM()
        if Machine.capability(.memoryAttributes) == 0 && !Machine.hasAttributes {
            // Either the call is unknown or the VM has no private attribute.
            expectRefusal(.inappropriateIOCTLForDevice, .invalidArgument) {
                try vm.setMemoryAttributes(GuestPhysicalRange(0, page), isPrivate: true)
            }
        } else {
            expectRefusal(.invalidArgument) {
                try vm.setMemoryAttributes(GuestPhysicalRange(0, page), isPrivate: true)
            }
            try vm.setMemoryAttributes(GuestPhysicalRange(0, page), isPrivate: false)
        }
    }

    @Test func `enabling hypercall exits takes the one call that it knows`() throws {
        let vm = try Machine.createVM()
        try vm.enable(.exitHypercall, [1 << 12])
        try vm.enable(.exitHypercall, [0])
        expectRefusal(.invalidArgument) { try vm.enable(.exitHypercall, [1 << 11]) }
    }

    // MARK: - Helpers

    private func bound() throws -> (KernelVirtualMachine, KernelGuestMemory) {
        try GuestMemoryKind(type: .default, flags: []).create(ByteCount(size))
    }

    private func slot(
        _ memory: KernelGuestMemory, id: UInt32 = 0, at start: UInt64 = 8 << 20, offset: UInt64 = 0, size: UInt64? = nil
    ) -> MemorySlot {
        MemorySlot(
            id: id, range: GuestPhysicalRange(start, size ?? self.size), userspaceAddress: 0, guestMemory: memory,
            guestMemoryOffset: ByteCount(offset))
    }

    private func region(_ memory: KernelGuestMemory) throws -> tdxd_kvm_userspace_memory_region2 {
        var region = tdxd_kvm_userspace_memory_region2()
        region.flags = UInt32(TDXD_KVM_MEM_GUEST_MEMFD)
        region.memory_size = page
        region.guest_memfd = try memory.use("test") { number throws(KVMError) in UInt32(number) }
        return region
    }
}

/// Guest memory that is not the kernel's.
private final class ForeignMemory: KVMGuestMemory {
    let size = ByteCount(1 << 20)
    let inode: UInt64 = 1
    func allocate(_ range: FileRange) throws(KVMError) {}
    func punchHole(_ range: FileRange) throws(KVMError) {}
    func residentBytes(_ range: FileRange) throws(KVMError) -> ByteCount { .zero }
    func map(_ range: FileRange) throws(KVMError) -> any MappedMemory { throw KVMError("mmap", .noMemory) }
    func duplicateDescriptor() throws(KVMError) -> OwnedDescriptor { throw KVMError("dup", .badFileDescriptor) }
    func close() {}
}
