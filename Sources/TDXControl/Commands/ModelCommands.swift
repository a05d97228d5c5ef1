internal import ArgumentParser
internal import TransitionModel

/// Models that answer questions about designs, not about this host.
struct ModelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model", abstract: "Explores models of what hosts and guests do. Needs no daemon.",
        subcommands: [ModelTransitionCommand.self])

    @ParentCommand var root: Tdxctl
}

struct ModelTransitionCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "transition",
        abstract: "Tries a guest's orders of converting pages against loads from anywhere, through every interleaving.",
        discussion: """
            Two CPUs, one perhaps with a stale TLB, may load from any page at any moment while a guest converts a range. \
            A protocol is safe when no interleaving lets a load reach a page by an attribute that the host does not \
            hold; otherwise the shortest interleaving that goes wrong is shown.
            """)

    @Option(
        name: [.customLong("protocol")],
        help: ArgumentHelp(
            "One protocol instead of all: \(TransitionProtocol.all.map(\.name).joined(separator: ", ")).",
            valueName: "name"),
        completion: .list(TransitionProtocol.all.map(\.name)),
        transform: { text in
            guard let found = TransitionProtocol.all.first(where: { $0.name == text }) else {
                throw ValidationError(
                    "unknown protocol “\(printable(text))”: "
                        + TransitionProtocol.all.map(\.name).joined(separator: ", "))
            }
            return found
        })
    var transition: TransitionProtocol?

    @Option(help: "Pages of the range, 1 to 3.")
    var pages = 2

    @OptionGroup var options: GlobalOptions
    @ParentCommand var model: ModelCommand
    var root: Tdxctl { model.root }

    func validate() throws {
        guard (1...3).contains(pages) else { throw ValidationError("--pages is 1 to 3") }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let reports = (transition.map { [$0] } ?? TransitionProtocol.all).map {
            TransitionExplorer.explore($0, pages: pages)
        }
        context.show(
            TransitionRecord(pages: pages, protocols: reports.map(TransitionRecord.Row.init)),
            text: render(reports, context.console.style))
        return .ok
    }
}
