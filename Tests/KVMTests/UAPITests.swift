import CKVM
import KVM
import Testing

/// The numbers and layouts are the kernel's ABI for x86-64; each expectation is a literal from the kernel's headers,
/// not computed from what is tested.
struct UAPITests {
    @Test(
        arguments: [
            ("KVM_GET_API_VERSION", 0x0000_AE00), ("KVM_CREATE_VM", 0x0000_AE01), ("KVM_CHECK_EXTENSION", 0x0000_AE03),
            ("KVM_GET_VCPU_MMAP_SIZE", 0x0000_AE04), ("KVM_CREATE_VCPU", 0x0000_AE41),
            ("KVM_SET_USER_MEMORY_REGION", 0x4020_AE46), ("KVM_SET_USER_MEMORY_REGION2", 0x40A0_AE49),
            ("KVM_RUN", 0x0000_AE80), ("KVM_ENABLE_CAP", 0x4068_AEA3),
            ("KVM_MEMORY_ENCRYPT_OP", 0xC008_AEBA), ("KVM_SET_MEMORY_ATTRIBUTES", 0x4020_AED2),
            ("KVM_CREATE_GUEST_MEMFD", 0xC040_AED4), ("KVM_PRE_FAULT_MEMORY", 0xC040_AED5),
            ("KVM_GET_REGS", 0x8090_AE81), ("KVM_SET_REGS", 0x4090_AE82), ("KVM_GET_SREGS", 0x8138_AE83),
            ("KVM_SET_SREGS", 0x4138_AE84), ("KVM_SET_CPUID2", 0x4008_AE90), ("KVM_GET_STATS_FD", 0x0000_AECE),
        ] as [(String, UInt32)])
    func `a request has the kernel's number`(name: String, number: UInt32) throws {
        let request = try #require(KVMRequest.all.first { $0.name == name })
        #expect(request.number == number)
        #expect(KVMRequest.allNumbers.contains(number))
    }

    @Test func `the list of requests is complete, without repetition, and every one has a place`() {
        #expect(KVMRequest.all.count == 20)
        #expect(KVMRequest.allNumbers.count == KVMRequest.all.count)
        // KVM_SET_TSC_KHZ, for a TD whose frequency was chosen.
        #expect(KVMRequest.allNumbers.contains(0xAEA2))
        #expect(KVMRequest.all.allSatisfy { !$0.scopes.isEmpty && $0.number >> 8 & 0xFF == 0xAE })
        #expect(
            Set(KVMRequest.made(on: .system).map(\.name)) == [
                "KVM_GET_API_VERSION", "KVM_CREATE_VM", "KVM_CHECK_EXTENSION", "KVM_GET_VCPU_MMAP_SIZE",
            ])
        #expect(KVMRequest.made(on: .virtualMachine).contains { $0.name == "KVM_MEMORY_ENCRYPT_OP" })
        #expect(KVMRequest.made(on: .virtualCPU).contains { $0.name == "KVM_MEMORY_ENCRYPT_OP" })
        #expect(!KVMRequest.made(on: .virtualCPU).contains { $0.name == "KVM_CREATE_GUEST_MEMFD" })
    }

    @Test func `capabilities have the kernel's numbers`() {
        let expected: [(KVMCapability, UInt32)] = [
            (.numberOfMemslots, 10), (.maximumVCPUs, 66), (.splitIRQChip, 121), (.exitHypercall, 201),
            (.userMemory2, 231), (.memoryFaultInfo, 232), (.memoryAttributes, 233), (.guestMemfd, 234), (.vmTypes, 235),
            (.preFaultMemory, 236), (.guestMemfdFlags, 244),
        ]
        for (capability, number) in expected { #expect(capability.rawValue == number) }
        #expect(VMType.default.rawValue == 0)
        #expect(VMType.softwareProtected.rawValue == 1)
        #expect(VMType.tdx.rawValue == 5)
    }

    @Test func `flags, commands and exits have the kernel's numbers`() {
        #expect(TDXD_KVM_MEM_LOG_DIRTY_PAGES == 1)
        #expect(TDXD_KVM_MEM_READONLY == 2)
        #expect(TDXD_KVM_MEM_GUEST_MEMFD == 4)
        #expect(GuestMemoryFlags.mmap.rawValue == 1)
        #expect(GuestMemoryFlags.initShared.rawValue == 2)
        #expect(TDXD_KVM_MEMORY_ATTRIBUTE_PRIVATE == 8)
        #expect(TDXD_KVM_MEMORY_EXIT_FLAG_PRIVATE == 8)
        #expect(TDXD_KVM_TDX_MEASURE_MEMORY_REGION == 1)
        #expect(TDXD_KVM_TDX_CAP_TERMINATE_VM == 1)
        #expect(TDXD_KVM_HC_MAP_GPA_RANGE == 12)
        let commands: [(TDXCommand, UInt32)] = [
            (.capabilities, 0), (.initVM, 1), (.initVCPU, 2), (.initMemoryRegion, 3), (.finalizeVM, 4),
            (.terminateVM, 6),
        ]
        for (command, id) in commands { #expect(command.id == id, "\(command.name)") }
        #expect(TDXD_KVM_TDX_GET_CPUID == 5)
        #expect(
            [
                TDXD_KVM_EXIT_IO, TDXD_KVM_EXIT_HYPERCALL, TDXD_KVM_EXIT_MMIO, TDXD_KVM_EXIT_INTERNAL_ERROR,
                TDXD_KVM_EXIT_SYSTEM_EVENT, TDXD_KVM_EXIT_MEMORY_FAULT, TDXD_KVM_EXIT_TDX,
            ] == [2, 3, 6, 17, 24, 39, 40])
    }

    @Test func `structures have the kernel's sizes`() {
        #expect(MemoryLayout<kvm_userspace_memory_region>.size == 32)
        #expect(MemoryLayout<tdxd_kvm_userspace_memory_region2>.size == 160)
        #expect(MemoryLayout<tdxd_kvm_create_guest_memfd>.size == 64)
        #expect(MemoryLayout<tdxd_kvm_memory_attributes>.size == 32)
        #expect(MemoryLayout<tdxd_kvm_pre_fault_memory>.size == 64)
        #expect(MemoryLayout<kvm_enable_cap>.size == 104)
        #expect(MemoryLayout<tdxd_kvm_tdx_cmd>.size == 24)
        #expect(MemoryLayout<tdxd_kvm_tdx_capabilities>.size == 2056)
        #expect(MemoryLayout<tdxd_kvm_tdx_init_vm>.size == 264)
        #expect(MemoryLayout<tdxd_kvm_tdx_init_mem_region>.size == 24)
        #expect(MemoryLayout<kvm_cpuid_entry2>.size == 40)
        #expect(MemoryLayout<kvm_run>.size == 2352)
    }

    @Test func `fields of the memory structures lie where the kernel reads them`() {
        typealias Region = tdxd_kvm_userspace_memory_region2
        expectOffsets([
            (\Region.slot, 0), (\Region.flags, 4), (\Region.guest_phys_addr, 8), (\Region.memory_size, 16),
            (\Region.userspace_addr, 24), (\Region.guest_memfd_offset, 32), (\Region.guest_memfd, 40),
            (\Region.pad1, 44), (\Region.pad2, 48),
        ])
        typealias Create = tdxd_kvm_create_guest_memfd
        expectOffsets([(\Create.size, 0), (\Create.flags, 8), (\Create.reserved, 16)])
        typealias Attributes = tdxd_kvm_memory_attributes
        expectOffsets([
            (\Attributes.address, 0), (\Attributes.size, 8), (\Attributes.attributes, 16), (\Attributes.flags, 24),
        ])
        typealias PreFault = tdxd_kvm_pre_fault_memory
        expectOffsets([(\PreFault.gpa, 0), (\PreFault.size, 8), (\PreFault.flags, 16), (\PreFault.padding, 24)])
        typealias Enable = kvm_enable_cap
        expectOffsets([(\Enable.cap, 0), (\Enable.flags, 4), (\Enable.args, 8), (\Enable.pad, 40)])
        typealias Leaf = kvm_cpuid_entry2
        expectOffsets([
            (\Leaf.function, 0), (\Leaf.index, 4), (\Leaf.flags, 8), (\Leaf.eax, 12), (\Leaf.ebx, 16), (\Leaf.ecx, 20),
            (\Leaf.edx, 24), (\Leaf.padding, 28),
        ])
    }

    @Test func `fields of the TDX structures lie where the kernel reads them`() {
        typealias Command = tdxd_kvm_tdx_cmd
        expectOffsets([(\Command.id, 0), (\Command.flags, 4), (\Command.data, 8), (\Command.hw_error, 16)])
        typealias Capabilities = tdxd_kvm_tdx_capabilities
        expectOffsets([
            (\Capabilities.supported_attrs, 0), (\Capabilities.supported_xfam, 8),
            (\Capabilities.kernel_tdvmcallinfo_1_r11, 16), (\Capabilities.user_tdvmcallinfo_1_r11, 24),
            (\Capabilities.kernel_tdvmcallinfo_1_r12, 32), (\Capabilities.user_tdvmcallinfo_1_r12, 40),
            (\Capabilities.supported_caps, 48), (\Capabilities.nent, 2048), (\Capabilities.padding, 2052),
        ])
        typealias Init = tdxd_kvm_tdx_init_vm
        expectOffsets([
            (\Init.attributes, 0), (\Init.xfam, 8), (\Init.mrconfigid, 16), (\Init.mrowner, 64),
            (\Init.mrownerconfig, 112), (\Init.reserved, 160), (\Init.nent, 256), (\Init.padding, 260),
        ])
        typealias Region = tdxd_kvm_tdx_init_mem_region
        expectOffsets([(\Region.source_addr, 0), (\Region.gpa, 8), (\Region.nr_pages, 16)])
    }

    @Test func `exits lie in kvm_run where the kernel writes them`() {
        typealias Run = kvm_run
        expectOffsets([
            (\Run.immediate_exit, 1), (\Run.exit_reason, 8), (\Run.flags, 14), (\Run.cr8, 16), (\Run.apic_base, 24),
            (\Run.kvm_valid_regs, 288), (\Run.kvm_dirty_regs, 296), (\Run.s, 304),
        ])
        #expect(TDXD_KVM_RUN_EXIT == 32)
        // Absolute offsets are the union's place and the field's in it.
        typealias Call = tdxd_kvm_exit_hypercall
        expectOffsets([(\Call.nr, 0), (\Call.args, 8), (\Call.ret, 56), (\Call.flags, 64)])
        typealias Fault = tdxd_kvm_exit_memory_fault
        expectOffsets([(\Fault.flags, 0), (\Fault.gpa, 8), (\Fault.size, 16)])
        typealias Event = tdxd_kvm_exit_system_event
        expectOffsets([(\Event.type, 0), (\Event.ndata, 4), (\Event.data, 8)])
        typealias TDX = tdxd_kvm_exit_tdx
        expectOffsets([(\TDX.flags, 0), (\TDX.nr, 8), (\TDX.arguments, 16)])
    }

    private func expectOffsets<Root>(
        _ expected: [(PartialKeyPath<Root>, Int)], sourceLocation: SourceLocation = #_sourceLocation
    ) {
        for (path, offset) in expected {
            #expect(MemoryLayout<Root>.offset(of: path) == offset, "\(path)", sourceLocation: sourceLocation)
        }
    }
}
