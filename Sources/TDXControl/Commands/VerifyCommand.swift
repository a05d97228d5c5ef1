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

    @OptionGroup var selection: DomainSelection

    @Flag(help: "Free what is wasted.")
    var reclaim = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var documents: [JSONValue] = []
        let status = context.forEach(try selection.names(context)) { name throws(Failure) in
            let reply = try context.withManager { client throws(VarlinkClientError) in
                try client.call(
                    ManagerInterface.Verify.method,
                    ManagerInterface.Verify.Parameters(name: TrustDomainName(unchecked: name), reclaim: reclaim),
                    as: ManagerInterface.Verify.Reply.self, timeout: .seconds(300))
            }
            guard context.json == .off else {
                documents.append(plainDocument(reply))
                return .ok
            }
            context.console.write(render(reply, context.console.style))
            return .ok
        }
        context.showDocuments(documents, isSingle: selection.isSingle)
        return status
    }
}
