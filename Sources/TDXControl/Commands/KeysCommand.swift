internal import ArgumentParser
internal import ControlInterface
internal import Varlink

struct KeysCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Shows how many key ids there are, and which TD holds which.",
        discussion: "A key id counts as taken until its return is proven.")

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let keys = try context.withManager { client throws(VarlinkClientError) in
            // tdxd may look at the host first.
            try client.call(
                ManagerInterface.GetKeys.method, as: ManagerInterface.GetKeys.Reply.self, timeout: .seconds(120))
        }
        context.show(completedReply(keys, of: "GetKeys"), text: render(keys, context.console.style))
        return .ok
    }
}
