internal import ArgumentParser
internal import ControlInterface
internal import Varlink

struct InventoryCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "inventory",
        abstract: "Shows which memory of this host is private or in transition, over all TDs.",
        discussion: """
            What must not be lost sight of before another kernel takes over. A TD of which nobody can tell how much is \
            private – it is being built, its holder is dead or silent, its end is not proven – is counted whole, with the \
            reason. With --ranges each TD's ranges are told, all of one moment: that of its change number, as in \
            “tdxctl map --follow”. With --ranges and --json each line is one answer: TDs, ranges by the TD's id, and the \
            total in the last one.
            """)

    @Flag(help: "List every range, too.")
    var ranges = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var domains: [InventoryDomain] = []
        var names: [String: String] = [:]
        var total: InventoryTotal?
        try context.withManager { client throws(VarlinkClientError) in
            // Holders that do not answer take their time.
            try client.callMore(
                ManagerInterface.Inventory.method, ManagerInterface.Inventory.Parameters(ranges: ranges),
                as: ManagerInterface.Inventory.Reply.self, timeout: .seconds(300)
            ) { reply, isLast in
                if isLast { total = reply.total }
                // Ranges are shown as they come: all of them may be too many to keep.
                guard ranges else { return domains += reply.domains ?? [] }
                guard context.json == .off else {
                    return context.console.write(json(completedReply(reply, of: "Inventory"), .short))
                }
                for domain in reply.domains ?? [] { names[domain.id] = domain.name }
                context.console.write(renderParts(of: reply, names: names, context.console.style))
            }
        }
        guard let total else { throw Failure(.protocolViolation("the last reply has no total")) }
        if !ranges {
            let whole = ManagerInterface.Inventory.Reply(domains: domains, total: total)
            context.show(
                completedReply(whole, of: "Inventory"), text: render(domains, total, context.console.style))
        } else if context.json == .off {
            context.console.write(render(total))
        }
        return .ok
    }
}
