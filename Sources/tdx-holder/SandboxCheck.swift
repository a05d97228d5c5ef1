import ArgumentParser
import TDHolder

struct SandboxCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sandbox-check",
        abstract: "Puts this process under the serving filter, tries what it forbids and prints what came of it.",
        shouldDisplay: false)

    func run() throws {
        let trials = try HolderProgram.sandboxCheck()
        print(HolderProgram.json(trials))
        if trials.contains(where: { !$0.isAsExpected }) { throw ExitCode.failure }
    }
}
