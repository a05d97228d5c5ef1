import ArgumentParser
import TDHolder

struct Launch: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Starts holders for the tdxd whose socket is descriptor 3, and ends with it.", shouldDisplay: false)

    @Option(help: ArgumentHelp("Holders' directories are in “holders” below it.", valueName: "directory"))
    var runtimeDirectory: String

    @Option(
        help: ArgumentHelp("Let each holder record its calls of the software TDX module there.", valueName: "directory")
    )
    var traces: String?

    @OptionGroup var log: LogLevelOption

    func validate() throws {
        guard runtimeDirectory.hasPrefix("/") else {
            throw ValidationError("--runtime-directory is an absolute path.")
        }
        guard traces?.hasPrefix("/") ?? true else { throw ValidationError("--traces is an absolute path.") }
    }

    func run() throws {
        try HolderProgram.launch(
            LauncherOptions(runtimeDirectory: runtimeDirectory, traces: traces, logLevel: log.logLevel))
    }
}
