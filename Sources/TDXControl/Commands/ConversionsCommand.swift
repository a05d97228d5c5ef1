internal import ArgumentParser
internal import ControlInterface
internal import Varlink

struct ConversionsCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "conversions", abstract: "Shows how the conversions of a TD's memory went.",
        discussion: """
            How many there were to either side since the TD was made, how large they were and how long they took, which \
            2 MiB blocks are converted most often, whether they have become a storm by the rule in tdxd's configuration, \
            and the last of them one by one. --json tells up to 64 blocks.
            """)

    @Argument(help: "The TD's name.", transform: parseTerm)
    var name: TrustDomainName

    @Option(
        help: ArgumentHelp("How many of the last conversions are shown, 0 to 1000.", valueName: "number"),
        transform: parseNumber)
    var last = ConversionCount.standard

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let reply = try context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.Conversions.method, ManagerInterface.Conversions.Parameters(name: name, last: last),
                as: ManagerInterface.Conversions.Reply.self)
        }
        context.show(completedReply(reply, of: "Conversions"), text: render(reply, context.console.style))
        return .ok
    }
}
