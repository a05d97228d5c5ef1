import KVM
import MemoryUnits
import Testing

@testable import ConfidentialMemory

private let kernel = try? KernelKVMSystem()
private let hasSharedGuestMemfd = ((try? kernel?.check(.guestMemfdFlags)) ?? 0) & 3 == 3

/// One guest_memfd for both sides, in an ordinary VM of the real kernel.
@Suite(.enabled(if: hasSharedGuestMemfd, "no /dev/kvm whose guest_memfd the host can map"))
struct InPlaceTests {
    @Test func `converting zeroes real guest_memfd pages in both directions`() throws {
        let machine = try KernelKVMSystem().createVirtualMachine(.default)
        let memory = try GuestMemory.make(
            in: machine, host: LinuxMemoryHost(),
            plan: ShardPlan(
                regions: [range(0, mebibytes: 8)],
                policy: ShardPolicy(maximumPerRegion: 2, minimumSize: .mebibytes(4))),
            sides: .inPlace, name: "in-place")
        let range = range(0x20_0000, mebibytes: 4)
        for side in [MemorySide.private, .shared, .private] {
            for part in [(0x20_0000, 0x40_0000), (0x40_0000, 0x60_0000)] as [(UInt64, UInt64)] {
                let view = try #require(
                    memory.hostView(
                        of: GuestPhysicalRange(
                            start: GuestPhysicalAddress(part.0), size: ByteCount(part.1 - part.0))))
                #expect(view.first == 0 && view.last == 0)
                view.initializeMemory(as: UInt8.self, repeating: 0xA5)
            }
            #expect(try memory.residency(of: range).private == .mebibytes(4))
            let result = try memory.convert(range, to: side)
            #expect(result.changed == .mebibytes(4) && result.discarded == .mebibytes(4))
            #expect(try memory.residency().total == .zero)
        }
        #expect(
            memory.runs() == [
                run(0..<0x200, .shared), run(0x200..<0x600, .private), run(0x600..<0x800, .shared),
            ])
        let report = Teardown(machine: machine, vcpus: [], memory: memory, gate: VCPUGate()).run(
            try TeardownPlan(
                TeardownFacts(
                    terminate: .absent, vcpus: 0, shards: memory.shards.map { .init(size: $0.range.size) }, cpus: 2)))
        #expect(report.failures.isEmpty)
        #expect(report.remaining == .zero)
    }

    @Test func `a range of another VM's memory is refused by the kernel and leaves nothing mapped`() throws {
        let machine = try KernelKVMSystem().createVirtualMachine(.default)
        let plan = ShardPlan(
            regions: [range(0, mebibytes: 4)], policy: ShardPolicy(maximumPerRegion: 1, minimumSize: .mebibytes(2)))
        let first = try GuestMemory.make(
            in: machine, host: LinuxMemoryHost(), plan: plan, sides: .inPlace, name: "first")
        #expect(throws: KVMError.self, "the slot's number and addresses are taken") {
            _ = try GuestMemory.make(in: machine, host: LinuxMemoryHost(), plan: plan, sides: .inPlace, name: "second")
        }
        first.close()
        machine.close()
    }
}
