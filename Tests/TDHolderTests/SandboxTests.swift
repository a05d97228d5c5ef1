import ControlInterface
import Glibc
import LinuxSystem
import ServiceSupport
import Testing

@testable import TDHolder

@Suite struct `The serving filter` {
    @Test func `The real program is refused what a holder never does, and keeps what it needs`() throws {
        let trials = try Self.trials()
        #expect(trials.count { $0.expected == .refused } >= 10)
        #expect(trials.count { $0.expected == .allowed } >= 6)
        for trial in trials { #expect(trial.isAsExpected, "\(trial.call): \(trial.before), then \(trial.after)") }
    }

    @Test(.enabled(if: FileSystemFence.Support.isThere, "this kernel has no Landlock"))
    func `The real program reaches no file but its own, and no process`() throws {
        let refused = try Self.trials().filter { $0.expected == .refused && $0.isAsExpected }.map(\.call)
        for call in [
            "open(/etc/passwd)", "opendir(/)", "open(another's file)", "open(O_CREAT, another's directory)",
            "unlink(another's file)", "open(O_WRONLY, own directory)", "mkdir(own directory)",
            "readlink(/proc/PARENT/exe)",
        ] {
            #expect(refused.contains(call), "\(refused)")
        }
    }

    private static func trials() throws -> [SandboxTrial] {
        let directory = try RunningHolder.makeDirectory()
        defer {
            for name in ["own", "other"] { RunningHolder.remove("\(directory)/\(name)") }
            RunningHolder.remove(directory)
        }
        let output = try HolderProgramUnderTest.run("sandbox-check --directory '\(directory)'")
        #expect(output.exitStatus == 0)
        return try output.decoded(as: [SandboxTrial].self)
    }
}

extension FileSystemFence.Support {
    fileprivate static var isThere: Bool {
        if case .version = ofKernel { true } else { false }
    }
}
