internal import ArgumentParser
internal import ControlInterface
internal import LinuxSystem
internal import Varlink

struct MapCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "map", abstract: "Shows which parts of a TD's memory are private, shared or converting.",
        discussion: """
            On a terminal a map of more than \(Self.fewRuns) runs is a strip of cells, elsewhere a row for each run; \
            --strip and --runs choose. With --follow every later change is printed as it comes, until the TD ends. Each \
            change has a number; a client that was cut off goes on with --since, and gets the whole map where too much has \
            changed meanwhile. With --json each answer is one line: “snapshot” is true where “runs” is the whole map, and \
            false where it is what was set, in this order.
            """)

    @Argument(help: "The TD's name.", transform: parseTerm)
    var name: TrustDomainName

    /// Runs that a terminal shows as rows unless told otherwise.
    static let fewRuns = 20

    @Flag(help: "Print a row for each run, however many there are.")
    var runs = false

    @Flag(help: "Print a strip of cells.")
    var strip = false

    @Flag(help: "Print every later change.")
    var follow = false

    @Option(
        help: ArgumentHelp("Begin after this change; only with --follow.", valueName: "number"), transform: parseNumber
    )
    var since: ChangeNumber?

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        guard !(runs && strip) else { throw ValidationError("--runs and --strip exclude each other") }
        guard !follow || !strip else { throw ValidationError("--strip does not go with --follow") }
        guard since == nil || follow else { throw ValidationError("--since goes with --follow") }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        guard !follow else { return try followMap(context) }
        let map = try context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.Map.method, ManagerInterface.Map.Parameters(name: name),
                as: ManagerInterface.Map.Reply.self)
        }
        let isStrip = strip || !runs && context.console.outputIsTerminal && map.runs.count > Self.fewRuns
        let style = context.console.style
        context.show(map, text: isStrip ? renderStrip(map, style) : render(map, style))
        return .ok
    }

    private func followMap(_ context: Context) throws(Failure) -> ExitStatus {
        var reached = since
        var isFollowing = false
        do throws(Failure) {
            try context.withManager { client throws(VarlinkClientError) in
                while !context.console.lostOutput() {
                    let reply = try client.call(
                        ManagerInterface.MapChanges.method,
                        ManagerInterface.MapChanges.Parameters(name: name, since: reached),
                        as: ManagerInterface.MapChanges.Reply.self, timeout: .seconds(60))
                    isFollowing = true
                    if reached == nil || reply.snapshot || !reply.runs.isEmpty { show(reply, context) }
                    reached = ChangeNumber(rawValue: reply.sequence)
                }
            }
        } catch {
            // The end of the TD is the end of its map.
            guard isFollowing, [".WrongState", ".NoSuchDomain", ".HolderFailed"].contains(where: error.code.hasSuffix)
            else { throw error }
            context.console.writeError("tdxctl: \(error.message)\n")
        }
        return .ok
    }

    private func show(_ reply: ManagerInterface.MapChanges.Reply, _ context: Context) {
        guard context.json == .off else {
            return context.console.write(TDXControl.json(reply, .short))
        }
        if reply.snapshot {
            context.console.write(
                "As of change \(reply.sequence) [\(formatted(backend: reply.backend, emulated: reply.emulated))]\n")
        }
        let first = reply.sequence &- Int64(reply.runs.count) &+ 1
        for (index, run) in reply.runs.enumerated() {
            let number = reply.snapshot ? "" : "#\(first &+ Int64(index))  "
            context.console.write(
                "\(number)\(formatted(address: run.gpa))–\(formatted(address: run.gpa &+ run.bytes))  "
                    + "\(formatted(bytes: run.bytes))  \(run.attribute.rawValue)\n")
        }
    }
}
