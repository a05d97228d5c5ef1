import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

@testable import ConfidentialMemory

private let kernel = try? KernelKVMSystem()
private let hasPrivateMemory = ((try? kernel?.check(.vmTypes)) ?? 0) & 1 << 1 != 0
private let canPreFault = ((try? kernel?.check(.preFaultMemory)) ?? 0) > 0

/// The two-sided layout in a VM whose attributes are the kernel's.
@Suite(.enabled(if: hasPrivateMemory, "KVM offers no software-protected VMs here"))
struct SoftwareProtectedTests {
    private static func makeMemory() throws -> (memory: GuestMemory, machine: any KVMVirtualMachine) {
        let machine = try KernelKVMSystem().createVirtualMachine(.softwareProtected)
        let memory = try GuestMemory.make(
            in: machine, host: LinuxMemoryHost(),
            plan: ShardPlan(regions: TestBench.regions, policy: TestBench.policy), sides: .apart, name: "protected")
        return (memory, machine)
    }

    /// Nil where this kernel cannot count.
    private static func residency(_ memory: GuestMemory, _ range: GuestPhysicalRange) -> Residency? {
        try? memory.residency(of: range)
    }

    @Test func `each side is resident only while its pages are on it`() throws {
        let (memory, machine) = try Self.makeMemory()
        // Across the shards' border at 16 MiB.
        let range = range(0xF0_0000, mebibytes: 2)
        for part in memory.parts(of: range)! {
            let view = try #require(memory.hostView(of: part.part))
            view.initializeMemory(as: UInt8.self, repeating: 0xA5)
        }
        let counts = Self.residency(memory, range) != nil
        if counts { #expect(Self.residency(memory, range)?.shared == .mebibytes(2)) }
        #expect(try memory.convert(range, to: .private).changed == .mebibytes(2))
        if counts { #expect(Self.residency(memory, range) == Residency()) }
        for part in memory.parts(of: range)! { try part.shard.file.allocate(part.shard.fileRange(part.part)) }
        if counts {
            #expect(Self.residency(memory, range)?.private == .mebibytes(2))
            #expect(try memory.verify().doubles.isEmpty)
        }
        #expect(try memory.convert(range, to: .shared).changed == .mebibytes(2))
        if counts { #expect(Self.residency(memory, range) == Residency()) }
        for part in memory.parts(of: range)! {
            #expect(memory.hostView(of: part.part)!.allSatisfy { $0 == 0 })
        }
        memory.close()
        machine.close()
    }

    /// A vCPU of a VM that is no TD is ready at once.
    @Test(.enabled(if: canPreFault, "KVM_CAP_PRE_FAULT_MEMORY is 0"))
    func `the kernel maps all private memory ahead, and only that`() throws {
        let (memory, machine) = try Self.makeMemory()
        let vcpu = try machine.createVCPU(id: 0)
        for region in TestBench.regions { try memory.convert(region, to: .private) }
        // In the middle of a table's 2 MiB, and one page at a shard's border.
        let shared = [range(0x30_1000, pages: 7), range(0xFF_F000, pages: 1)]
        for part in shared { try memory.convert(part, to: .shared) }
        var heard: [ByteCount] = []
        try memory.preFault(through: vcpu, progress: { heard.append($0) })
        let whole = memory.size - PageCount(8).bytes
        #expect(heard.last == whole && heard == heard.sorted())
        if let resident = try? memory.residency() { #expect(resident.private == whole && resident.shared == .zero) }
        // Again, with everything mapped.
        try memory.preFault(through: vcpu)
        var asked = 0
        #expect(throws: PreFaultError.cancelled) {
            try memory.preFault(
                through: vcpu,
                isCancelled: {
                    asked += 1
                    return asked > 2
                })
        }
        vcpu.close()
        memory.close()
        machine.close()
    }

    @Test func `private memory that shared pages hide is found and freed`() throws {
        let (memory, machine) = try Self.makeMemory()
        let shard = memory.shards[1]
        guard Self.residency(memory, shard.range) != nil else {
            #expect(throws: GuestMemoryError.self, "what cannot be counted is not called clean") { try memory.verify() }
            return
        }
        try shard.file.allocate(FileRange(offset: .mebibytes(2), length: .mebibytes(4)))
        let double = DoubleResidency(range: shard.range, wasted: .private, bytes: .mebibytes(4))
        #expect(try memory.verify().doubles == [double])
        #expect(try memory.reclaim().doubles == [double])
        #expect(try memory.verify().doubles.isEmpty)
        memory.close()
        machine.close()
    }

    @Test func `all memory goes there and back through the kernel's attributes, and comes back in the end`() throws {
        let (memory, machine) = try Self.makeMemory()
        for region in TestBench.regions { try memory.convert(region, to: .private, chunk: .mebibytes(8)) }
        try memory.preallocate(threads: 2)
        let counts = (try? memory.residency()) != nil
        if counts { #expect(try memory.residency().private == memory.size) }
        #expect(try memory.convert(range(0x1000, pages: 4_000), to: .shared).changed == PageCount(4_000).bytes)
        let teardown = Teardown(machine: machine, vcpus: [], memory: memory, gate: VCPUGate())
        let report = teardown.run(try TeardownPlan(teardown.facts(terminate: .absent)))
        #expect(report.failures.isEmpty)
        if counts {
            #expect(report.released + PageCount(4_000).bytes == memory.size)
            #expect(report.remaining == .zero)
        }
    }
}
