import KVM
import MemoryUnits
import SystemPackage
import Testing

@testable import ConfidentialMemory

/// Private memory that is mapped before the guest touches it, on a kernel that keeps KVM's rules of order.
@Suite struct PrefaultedMemoryTests {
    private static func makeDomain(
        _ bench: TestBench, preallocated: Bool = false, prefaulted: Bool = true,
        progress: @escaping (BuildProgress) -> Void = { _ in }
    ) throws -> TrustDomain {
        var configuration = try SmallFirmware.configuration()
        configuration.isPreallocated = preallocated
        configuration.isPrefaulted = prefaulted
        return try TrustDomain(configuration, system: bench.system, host: bench.host, progress: progress)
    }

    @Test func `all private memory is mapped, the image's pages too, and progress ends at the whole`() throws {
        let bench = TestBench()
        var heard: [BuildProgress] = []
        let domain = try Self.makeDomain(bench) { heard.append($0) }
        let size = domain.memory.size
        let resident = try #require(domain.describe().resident)
        #expect(resident.private == size && resident.shared == .zero)
        let steps = heard.filter { $0.phase == .prefault }
        #expect(steps.first?.done == .zero && steps.last?.done == size)
        #expect(steps.map(\.done) == steps.map(\.done).sorted() && steps.allSatisfy { $0.total == size })
        #expect(heard.last?.phase == .prefault)
        // What was measured and loaded is what the guest finds.
        #expect(domain.measurement == LaunchMeasurement.replaying(try SmallFirmware.configuration().plan))
        _ = try domain.stop()
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `memory is allocated first, then loaded and finalized, and mapped last`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench, preallocated: true)
        let names = bench.journal.names
        let finalized = try #require(names.firstIndex(of: "finalize"))
        let mapped = names.indices.filter { names[$0] == "pre-fault" }
        #expect(mapped.count >= 5, "8 MiB in steps of 2, and the firmware")
        #expect(mapped.allSatisfy { $0 > finalized })
        let loaded = try #require(names.firstIndex(of: "init-mem"))
        let allocated = names.indices.filter { names[$0] == "allocate" }
        #expect(!allocated.isEmpty && allocated.allSatisfy { $0 < loaded })
        #expect(domain.describe().resident?.private == domain.memory.size)
        _ = try domain.stop()
    }

    @Test func `shared memory is left alone, and each step ends at a table's border`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench, prefaulted: false)
        let memory = domain.memory
        let shared = range(0x1F_F000, pages: 3)
        _ = try domain.convert(shared, to: .shared)
        bench.journal.reset()
        try memory.preFault(through: domain.vcpus[0])
        #expect(try memory.residency().private == memory.size - shared.size)
        #expect(try memory.residency().shared == .zero)
        let first = bench.journal.calls.filter { $0.name == "pre-fault" }.prefix(3).map(\.detail)
        #expect(
            first == [
                "\(range(0, pages: 0x1FF))", "\(range(0x20_2000, pages: 0x1FE))", "\(range(0x40_0000, mebibytes: 2))",
            ])
        _ = try domain.stop()
    }

    @Test func `it can be cancelled between two steps`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench, prefaulted: false)
        let before = try domain.memory.residency(of: range(0, mebibytes: 2)).private
        #expect(before < .mebibytes(2))
        var asked = 0
        #expect(throws: PreFaultError.cancelled) {
            try domain.memory.preFault(
                through: domain.vcpus[0],
                isCancelled: {
                    asked += 1
                    return asked > 1
                })
        }
        #expect(try domain.memory.residency(of: range(0, mebibytes: 2)).private == .mebibytes(2))
        #expect(try domain.memory.residency(of: range(0x20_0000, mebibytes: 2)).private == .zero)
        _ = try domain.stop()
    }

    @Test func `a kernel without the capability refuses before anything is allocated`() throws {
        var traits = PlainKernel.Traits()
        traits.preFaults = false
        let bench = TestBench(traits)
        #expect {
            _ = try Self.makeDomain(bench)
        } throws: { error in
            guard case .refused(let refusal)? = error as? TrustDomainError else { return false }
            return refusal.operation == "KVM_PRE_FAULT_MEMORY" && refusal.errno == .notSupportedOnSocket
                && refusal.detail.contains("KVM_CAP_PRE_FAULT_MEMORY is 0")
        }
        #expect(!bench.journal.names.contains("create-gmem") && !bench.journal.names.contains("init-vm"))
        #expect(bench.held == KernelLedger.Counts())
        // Who does not ask for it gets a TD.
        _ = try Self.makeDomain(bench, preallocated: true, prefaulted: false).stop()
    }

    @Test(arguments: [1, 3]) func `a refusal on the way undoes the TD and names the call`(number: Int) throws {
        let whole = TestBench()
        _ = try Self.makeDomain(whole).stop()
        let positions = whole.journal.calls.indices.filter { whole.journal.calls[$0].name == "pre-fault" }
        let bench = TestBench()
        bench.journal.fail(at: positions[number - 1], with: .noMemory)
        #expect {
            _ = try Self.makeDomain(bench)
        } throws: { error in
            guard case .refused(let refusal)? = error as? TrustDomainError else { return false }
            return refusal.operation == "pre-fault" && refusal.errno == .noMemory
        }
        #expect(bench.held == KernelLedger.Counts())
    }
}
