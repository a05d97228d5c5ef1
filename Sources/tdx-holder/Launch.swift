import ArgumentParser
import Logging
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

    @Option(
        help: "trace, debug, info, notice, warning, error or critical.",
        transform: { text in
            guard let level = Logger.Level(rawValue: text) else {
                throw ValidationError("“\(text)” is no log level; use one from trace to critical.")
            }
            return level
        })
    var logLevel = Logger.Level.info

    func validate() throws {
        guard runtimeDirectory.hasPrefix("/") else {
            throw ValidationError("--runtime-directory is an absolute path.")
        }
        guard traces?.hasPrefix("/") ?? true else { throw ValidationError("--traces is an absolute path.") }
    }

    func run() throws {
        try HolderProgram.launch(
            LauncherOptions(runtimeDirectory: runtimeDirectory, traces: traces, logLevel: logLevel))
    }
}
