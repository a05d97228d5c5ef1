import ArgumentParser
import TDHolder

struct TraceReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace-replay",
        abstract: "Makes the calls of a recording again on the software TDX module and shows where they differ.")

    @Argument(help: ArgumentHelp("What --trace recorded.", valueName: "file"), completion: .file())
    var path: String

    @Flag(help: "Print the report as one line of JSON.")
    var json = false

    func run() throws {
        let report: TraceReport
        do {
            report = try TraceReport(path: path)
        } catch {
            HolderProgram.printError("tdx-holder: \(path): \(error)")
            throw ExitCode.failure
        }
        print(json ? HolderProgram.json(report) : report.text)
        if !report.agrees { throw ExitCode.failure }
    }
}
