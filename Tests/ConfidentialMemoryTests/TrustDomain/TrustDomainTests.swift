import FirmwareImage
import KVM
import MemoryUnits
import SystemPackage
import Testing

@testable import ConfidentialMemory

@Suite struct TrustDomainTests {
    @Test func `a TD is made in KVM's order and all its memory is private`() throws {
        let bench = TestBench()
        let domain = try TrustDomain(try TestBench.configuration(), system: bench.system, host: bench.host)
        let names = bench.journal.names.filter { $0 != "resident" && $0 != "drop-mappings" && $0 != "punch" }
        let shard = ["create-gmem", "create-shared", "map", "set-slot"]
        #expect(
            names == ["create-vm", "enable", "check", "check", "capabilities", "enable", "init-vm"]
                + ["create-vcpu", "get-cpuid", "cpuid", "init-vcpu", "create-vcpu", "get-cpuid", "cpuid", "init-vcpu"]
                + shard + shard + ["attributes", "finalize"])
        let description = domain.describe()
        #expect(description.state == .runnable)
        #expect(description.memory == .mebibytes(24))
        #expect(description.pages[.private].bytes == .mebibytes(24))
        #expect(description.resident == Residency())
        #expect(description.measurement == LaunchMeasurement().value)
        #expect(domain.runs() == [run(0..<0x1800, .private)])
        #expect(try domain.stop().failures.isEmpty)
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `a TD that fails to be made at any call leaves nothing behind`() throws {
        let counting = TestBench()
        _ = try TrustDomain(try TestBench.configuration(), system: counting.system, host: counting.host)
        let calls = counting.journal.calls
        for (position, call) in calls.enumerated() where call.canFail {
            for errno in [Errno.ioError, .noMemory, .interrupted, .resourceBusy, .resourceTemporarilyUnavailable] {
                let bench = TestBench()
                bench.journal.fail(at: position, with: errno)
                do {
                    let domain = try TrustDomain(
                        try TestBench.configuration(), system: bench.system, host: bench.host)
                    // A retry has made up for it, or the call is one that may not fail; either way the TD works.
                    #expect(domain.describe().pages[.private].bytes == .mebibytes(24), "\(position) \(call) \(errno)")
                    _ = try domain.stop()
                } catch {
                    let named: KVMError? =
                        switch error as? TrustDomainError {
                        case .refused(let error), .noKeyAvailable(let error): error
                        default: nil
                        }
                    #expect(named?.errno == errno, "\(position) \(call): \(error)")
                    #expect(named?.operation == call.name, "\(position) \(call): \(error)")
                }
                #expect(bench.held == KernelLedger.Counts(), "\(position) \(call) \(errno)")
            }
        }
    }

    @Test(arguments: [
        (CPUIDEntry(function: 0x1234), "0x1234"), (CPUIDEntry(function: 0x8000_0008, eax: 48 << 16, edx: 5), "EDX 0x5"),
    ])
    func `a CPUID leaf or bit that the host does not let a TD configure is named`(
        entry: CPUIDEntry, named: String
    ) throws {
        let bench = TestBench()
        var configuration = try TestBench.configuration()
        configuration.cpuid = [entry]
        do {
            _ = try TrustDomain(configuration, system: bench.system, host: bench.host)
            Issue.record("the TD was made")
        } catch {
            #expect("\(error)".contains("cpuid is CPUID leaf") && "\(error)".contains(named), "\(error)")
        }
        #expect(!bench.journal.names.contains("init-vm"))
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `exhausted key ids are told apart from other refusals`() throws {
        var traits = PlainKernel.Traits()
        traits.keys = 0
        let bench = TestBench(traits)
        #expect {
            _ = try TrustDomain(try TestBench.configuration(), system: bench.system, host: bench.host)
        } throws: { error in
            guard case .noKeyAvailable(let refusal)? = error as? TrustDomainError else { return false }
            return refusal.errno == .noSpace
        }
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `bad parameters are named before or without leaving anything`() throws {
        let bench = TestBench()
        func field(_ change: (inout TrustDomainConfiguration) -> Void) throws -> String? {
            var configuration = try TestBench.configuration()
            change(&configuration)
            do {
                _ = try TrustDomain(configuration, system: bench.system, host: bench.host)
                return nil
            } catch {
                guard case .invalid(let field, _, _) = error else { return "\(error)" }
                return field
            }
        }
        #expect(try field { $0.vcpus = 0 } == "vcpus")
        #expect(try field { $0.vcpus = 9 } == "vcpus")
        #expect(try field { $0.mrOwner = [1, 2, 3] } == "mrowner")
        #expect(try field { $0.attributes = 1 } == "attributes")
        #expect(try field { $0.xfam = 0xFF } == "xfam")
        #expect(try field { $0.name = String(repeating: "n", count: 201) } == "name")
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `conversions go through until the TD stops, and none after`() throws {
        let bench = TestBench()
        let domain = try TrustDomain(try TestBench.configuration(), system: bench.system, host: bench.host)
        let range = range(0x40_0000, mebibytes: 2)
        #expect(try domain.convert(range, to: .shared).changed == .mebibytes(2))
        #expect(domain.describe().pages[.shared].bytes == .mebibytes(2))
        _ = try domain.stop()
        #expect(domain.state == .released)
        #expect(throws: TrustDomainError.wrongState(.released, operation: "convert")) {
            try domain.convert(range, to: .private)
        }
        #expect(throws: TrustDomainError.wrongState(.released, operation: "stop")) { try domain.stop() }
    }

    @Test func `the backing files are handed out shard by shard`() throws {
        let bench = TestBench()
        let domain = try TrustDomain(try TestBench.configuration(), system: bench.system, host: bench.host)
        var seen: [String] = []
        var inodes: Set<UInt64> = []
        try domain.forEachBackingFile { file in
            seen.append("\(file.side.rawValue) \(file.range.start)")
            inodes.insert(file.inode)
        }
        #expect(seen == ["private 0x0", "shared 0x0", "private 0x1000000", "shared 0x1000000"])
        #expect(inodes.count == 4)
        _ = try domain.stop()
    }

    @Test func `a life takes uses until it stops and waits for those under way`() throws {
        var life = TrustDomainLifecycle()
        try life.beginUse("convert")
        try life.beginUse("convert")
        #expect(life.endUse() == nil)
        #expect(try life.stop() == .waitForUses)
        #expect(life.isStopping)
        #expect(throws: TrustDomainError.wrongState(.stopping, operation: "convert")) {
            try life.beginUse("convert")
        }
        #expect(throws: TrustDomainError.wrongState(.stopping, operation: "stop")) { try life.stop() }
        #expect(life.endUse() == .tearDown)
        life.halted()
        #expect(throws: TrustDomainError.wrongState(.halted, operation: "convert")) { try life.beginUse("convert") }
        try life.beginUse("get backing", evenHalted: true)
        #expect(life.endUse() == nil)
        try life.release()
        life.released()
        #expect(life.state == .released)
    }
}
