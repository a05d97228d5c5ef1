internal import ArgumentParser
internal import ControlInterface
internal import Varlink

struct VerifyCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Finds memory of a TD that the host pays for twice.",
        discussion: """
            Only one side of a page can be reached, private or shared. Where the other side is resident, too, its \
            memory is wasted. Conversions wait while this runs.
            """)

    @Argument(help: "The TD's name.", transform: parseName)
    var name: String

    @Flag(help: "Free what is wasted.")
    var reclaim = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let reply = try context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.Verify.method, ManagerInterface.Verify.Parameters(name: name, reclaim: reclaim),
                as: ManagerInterface.Verify.Reply.self, timeout: .seconds(300))
        }
        context.show(reply, text: render(reply, context.console.style))
        return .ok
    }
}
