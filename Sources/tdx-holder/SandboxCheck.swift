import ArgumentParser
import TDHolder

struct SandboxCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sandbox-check",
        abstract:
            "Puts this process under the fence and the serving filter, tries what it forbids and prints what came of it.",
        shouldDisplay: false)

    @Option(help: ArgumentHelp("An empty directory for files that are tried.", valueName: "directory"))
    var directory: String

    func run() throws {
        let trials = try HolderProgram.sandboxCheck(in: directory)
        print(HolderProgram.json(trials))
        if trials.contains(where: { !$0.isAsExpected }) { throw ExitCode.failure }
    }
}
