import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// Real vCPUs with programs of a few bytes.
@Suite(.enabled(if: Machine.hasKVM, "there is no usable /dev/kvm"))
struct VirtualCPUTests {
    @Test func `a real-mode program writes and reads ports, memory and a missing device, and halts`() throws {
        let vm = try Machine.createVM()
        let file = try MemoryFile(name: "real-mode", size: .kibibytes(64))
        let mapping = try file.map(length: .kibibytes(64))
        defer { withExtendedLifetime(mapping) {} }  // the slot knows only its address
        mapping.store(
            [
                0xBA, 0x10, 0x02,  // mov dx, 0x210
                0xB0, 0x41,  // mov al, 'A'
                0xEE,  // out dx, al
                0xED,  // in ax, dx
                0xA3, 0x00, 0x20,  // mov [0x2000], ax
                0xB8, 0x34, 0x12,  // mov ax, 0x1234
                0x8E, 0xD8,  // mov ds, ax: base 0x12340
                0xA2, 0x05, 0x00,  // mov [5], al: no memory there
                0xA0, 0x07, 0x00,  // mov al, [7]: nor there
                0xEE,  // out dx, al
                0xF4,  // hlt
            ], at: 0x1000)
        try vm.setMemorySlot(
            MemorySlot(
                id: 0, range: GuestPhysicalRange(0, 64 << 10), userspaceAddress: UInt(bitPattern: mapping.baseAddress)))
        let vcpu = try vm.createVCPU(id: 0)
        var registers = VCPURegisters()
        registers.rip = 0x1000
        try vcpu.start(mode: .real, registers: registers)
        #expect(try vcpu.run(within: 60_000) == .io(isWrite: true, size: 1, port: 0x210, data: [0x41]))
        #expect(try vcpu.run(within: 60_000) == .io(isWrite: false, size: 2, port: 0x210, data: []))
        vcpu.completeInput([0xCD, 0xAB])
        #expect(
            try vcpu.run(within: 60_000) == .mmio(isWrite: true, address: .init(0x12345), data: [0x34]))
        #expect(mapping.holds(0xCD, 0x2000, 1) && mapping.holds(0xAB, 0x2001, 1))
        #expect(
            try vcpu.run(within: 60_000) == .mmio(isWrite: false, address: .init(0x12347), data: [0]))
        vcpu.completeInput([0x99])
        #expect(try vcpu.run(within: 60_000) == .io(isWrite: true, size: 1, port: 0x210, data: [0x99]))
        #expect(try vcpu.run(within: 60_000) == .halt)
        let after = try vcpu.registers()
        #expect(after.rax & 0xFF == 0x99)
        #expect(after.rdx & 0xFFFF == 0x210)
    }

    @Test func `a protected-mode program obeys its host`() throws {
        let vm = try Machine.createVM()
        let guest = try Guest(vm)
        try guest.ask(.write, 0x8000, 0x1234_5678)
        #expect(try guest.ask(.read, 0x8000) == 0x1234_5678)
        try guest.fill(0x9000, 4096, 0xA5)
        #expect(try guest.holds(0xA5, 0x9000, 4096))
        try guest.ask(.write, 0x9FF8, 0)
        #expect(try !guest.holds(0xA5, 0x9000, 4096))
    }

    @Test func `a guest that spins is stopped by its deadline`() throws {
        let vm = try Machine.createVM()
        let file = try MemoryFile(name: "spin", size: .kibibytes(4))
        let mapping = try file.map(length: .kibibytes(4))
        defer { withExtendedLifetime(mapping) {} }  // the slot knows only its address
        mapping.store([0xEB, 0xFE], at: 0)  // jmp to itself
        try vm.setMemorySlot(
            MemorySlot(
                id: 0, range: GuestPhysicalRange(0x1000, 4096), userspaceAddress: UInt(bitPattern: mapping.baseAddress))
        )
        let vcpu = try vm.createVCPU(id: 0)
        var registers = VCPURegisters()
        registers.rip = 0x1000
        try vcpu.start(mode: .real, registers: registers)
        #expect(try vcpu.run(within: 20) == .interrupted)
        #expect(try vcpu.registers().rip == 0x1000)
    }

    @Test func `immediate exit keeps a vCPU out of the guest until it is taken back`() throws {
        let vm = try Machine.createVM()
        let guest = try Guest(vm)
        guest.vcpu.setImmediateExit(true)
        #expect(try guest.vcpu.run() == .interrupted)
        guest.vcpu.setImmediateExit(false)
        #expect(try guest.ask(.read, 0x1000) != 0)
    }

    @Test func `a closed vCPU refuses calls and gives up its memory, and closing twice is nothing`() throws {
        let vm = try Machine.createVM()
        let vcpu = try vm.createVCPU(id: 0)
        vcpu.close()
        vcpu.close()
        vcpu.setImmediateExit(true)
        expectRefusal(.badFileDescriptor) { _ = try vcpu.run() }
        expectRefusal(.badFileDescriptor) { _ = try vcpu.registers() }
        vm.close()
        vm.close()
        expectRefusal(.badFileDescriptor) { _ = try vm.check(.guestMemfd) }
    }

    @Test func `vCPU ids are checked, duplicates last`() throws {
        let vm = try Machine.createVM()
        expectRefusal(.invalidArgument) { _ = try vm.createVCPU(id: 4096) }
        _ = try vm.createVCPU(id: 1)
        expectRefusal(.fileExists) { _ = try vm.createVCPU(id: 1) }
    }

    @Test func `CPUID leaves are taken`() throws {
        let vcpu = try Machine.createVM().createVCPU(id: 0)
        try vcpu.setCPUID([
            CPUIDEntry(function: 0, eax: 1, ebx: 0x7564_6E65, ecx: 0x6C65_746E, edx: 0x4965_6E69),
            CPUIDEntry(function: 1, eax: 0x600),
        ])
        let many = (0..<300).map { CPUIDEntry(function: 0x4000_0000 + UInt32($0)) }
        expectRefusal(.argListTooLong) { try vcpu.setCPUID(many) }
    }

    @Test func `KVM's counters are read, outlive the VM's descriptor, and show what is mapped`() throws {
        let vm = try Machine.createVM()
        let statistics = try vm.statistics()
        #expect(try statistics.mappedBytes() == .zero)
        let guest = try Guest(vm)
        try guest.fill(0x8000, 0x4000, 1)
        let values = try statistics.read()
        #expect(values["pages_4k"] != nil)
        #expect(values["pages_2m"] != nil)
        #expect(values.count > 10)
        // Where KVM emulates the guest without translating by hardware, nothing need ever be mapped.
        if Machine.hasTwoDimensionalPaging { #expect(try statistics.mappedBytes() >= .kibibytes(16)) }
        vm.close()
        _ = try statistics.read()
    }

    @Test func `TDX commands on an ordinary VM are refused as unknown`() throws {
        let vm = try Machine.createVM()
        expectRefusal(.inappropriateIOCTLForDevice) { try vm.tdxTerminate() }
        expectRefusal(.inappropriateIOCTLForDevice) { _ = try vm.tdxCapabilities() }
        expectRefusal(.inappropriateIOCTLForDevice) { try vm.tdxFinalize() }
        let vcpu = try vm.createVCPU(id: 0)
        expectRefusal(.inappropriateIOCTLForDevice, .invalidArgument) { try vcpu.tdxInitialize(initialRCX: 0) }
        let source = try MemoryFile(name: "source", size: .kibibytes(4)).map(length: .kibibytes(4))
        expectRefusal(.inappropriateIOCTLForDevice, .invalidArgument) {
            try vcpu.tdxInitializeMemory(
                from: UnsafeRawBufferPointer(start: source.baseAddress, count: 4096), at: .init(0), measured: true
            ) { _ in Issue.record("nothing was added") }
        }
    }
}
