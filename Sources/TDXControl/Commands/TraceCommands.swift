internal import ArgumentParser
internal import LinuxSystem

/// Recordings of the software TDX module's calls.
struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace", abstract: "Works with recordings of the emulated TDX module's calls. Needs no daemon.",
        subcommands: [TraceReplayCommand.self])

    @ParentCommand var root: Tdxctl
}

/// tdxctl knows no TDX module; the holder program beside it does, and replays.
struct TraceReplayCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Makes the calls of a recording again and shows where the recording and the module disagree.",
        discussion: "A recording is made by “tdx-holder serve --trace FILE”. Exits with 1 where they disagree.")

    @Argument(help: "The recording.", completion: .file(), transform: parsePath)
    var file: String

    @OptionGroup var options: GlobalOptions
    @ParentCommand var trace: TraceCommand
    var root: Tdxctl { trace.root }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        do throws(LinuxError) {
            let own = try TextFile.linkTarget("/proc/self/exe")
            let directory = own.lastIndex(of: "/").map { String(own[..<$0]) } ?? ""
            let program = ProgramStart(
                path: directory + "/tdx-holder",
                arguments: ["trace-replay", file] + (context.json == .off ? [] : ["--json"]), environment: [],
                workingDirectory: nil, descriptors: [], newSession: false)
            return try program.start().wait() == .exited(status: 0) ? .ok : .failed
        } catch {
            throw Failure(
                status: .failed, code: "system", message: "tdx-holder cannot be run: \(error)",
                hint: "it stands beside tdxctl where both are installed")
        }
    }
}
