import FirmwareImage
import KVM
import MemoryUnits
import SystemPackage
import Testing

@testable import ConfidentialMemory

@Suite struct LaunchTests {
    @Test func `firmware is added section by section, and MRTD is that of the plan`() throws {
        let bench = TestBench()
        let configuration = try SmallFirmware.configuration()
        let domain = try TrustDomain(configuration, system: bench.system, host: bench.host)
        let calls = bench.journal.calls
        #expect(calls.contains { $0.description == "init-vcpu 0 rcx \(SmallFirmware.handOffBlock)" })
        #expect(
            calls.filter { $0.name == "init-mem" }.map(\.detail) == [
                "0xffffe000 8192 measured", "0xffffd000 4096 unmeasured", "0x9000 8192 unmeasured",
                "0x0 12288 unmeasured",
            ])
        #expect(domain.measurement == LaunchMeasurement.replaying(configuration.plan))
        #expect(domain.measurement != LaunchMeasurement().value)
        _ = try domain.stop()
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `what the guest finds in memory is what the plan says, zeroes included`() throws {
        let bench = TestBench()
        let configuration = try SmallFirmware.configuration()
        let domain = try TrustDomain(configuration, system: bench.system, host: bench.host)
        for run in configuration.plan.runs {
            for page in run.range.frames.lowerBound.rawValue..<run.range.frames.upperBound.rawValue {
                let address = GuestFrameNumber(page).address
                var expected: UInt8 = 0xFF
                withUnsafeMutableBytes(of: &expected) { run.copyBytes(from: address - run.range.start, into: $0) }
                #expect(try domain.memory.firstByte(address) == expected, "\(address)")
            }
        }
        #expect(domain.describe().resident?.private == configuration.plan.addedSize)
        #expect(domain.describe().resident?.shared == .zero)
        _ = try domain.stop()
    }

    @Test func `progress of the load ends at what the plan adds`() throws {
        let bench = TestBench()
        var configuration = try SmallFirmware.configuration()
        configuration.isPreallocated = true
        configuration.isPrefaulted = true
        var heard: [BuildProgress] = []
        let domain = try TrustDomain(configuration, system: bench.system, host: bench.host) { heard.append($0) }
        let load = heard.filter { $0.phase == .load }
        #expect(load.last?.done == configuration.plan.addedSize)
        #expect(load.allSatisfy { $0.total == configuration.plan.addedSize })
        #expect(load.map(\.done) == load.map(\.done).sorted())
        #expect(Set(heard.map(\.phase)) == Set(BuildProgress.Phase.allCases))
        _ = try domain.stop()
    }
}
