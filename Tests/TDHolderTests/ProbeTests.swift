import ControlInterface
import FoundationEssentials
import Testing

@Suite struct `The probe as a program` {
    @Test func `It prints one report and succeeds`() throws {
        let output = try HolderProgramUnderTest.run("probe --json")
        #expect(output.exitStatus == 0)
        let report = try output.decoded(as: HostReport.self)
        #expect(report.checks.count == 17)
        #expect(report.emulated == (report.backend != .tdx))
        #expect(report.checks.allSatisfy { !$0.evidence.isEmpty && ($0.result != .fail || $0.hint != nil) })
    }

    @Test func `A backend that is forced is reported as chosen`() throws {
        let report = try HolderProgramUnderTest.run("probe --json --backend memfd").decoded(as: HostReport.self)
        #expect(report.backend == .memfd && report.emulated)
    }

    @Test func `An unknown backend is a usage error`() throws {
        let output = try HolderProgramUnderTest.run("probe --backend kvm 2>/dev/null")
        #expect(output.exitStatus == 64)
        #expect(output.text.isEmpty)
    }
}
