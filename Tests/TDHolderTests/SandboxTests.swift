import ControlInterface
import Testing

@testable import TDHolder

@Suite struct `The serving filter` {
    @Test func `The real program is refused what a holder never does, and keeps what it needs`() throws {
        let output = try HolderProgramUnderTest.run("sandbox-check")
        let trials = try output.decoded(as: [SandboxTrial].self)
        #expect(trials.count { $0.expected == .refused } == 10)
        #expect(trials.count { $0.expected == .allowed } >= 6)
        for trial in trials { #expect(trial.isAsExpected, "\(trial.call): \(trial.before), then \(trial.after)") }
        #expect(output.exitStatus == 0)
    }
}
