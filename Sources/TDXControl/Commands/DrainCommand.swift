internal import ArgumentParser
internal import ControlInterface
internal import Varlink

struct DrainCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Empties the host: no new TDs, and running ones are ended and proven back.",
        discussion: """
            Stays so, also across a restart of tdxd, until --undo. For module-update TDs run on: only what is being built \
            stands against it. The exit status is 0 when the host is ready, and 75 when something still stands against it.
            """)

    @Option(
        name: .customLong("for"),
        help: ArgumentHelp("kexec, shutdown, module-update or maintenance.", valueName: "purpose"),
        completion: .list(DrainPurpose.allCases.map(\.words)), transform: parsePurpose)
    var purpose: DrainPurpose?

    @Option(
        help: ArgumentHelp(
            "How running TDs are ended: auto or dynamic-removal (default: as tdxd is configured).", valueName: "policy"),
        transform: parseChoice)
    var policy: StopPolicy?

    @Option(
        help: ArgumentHelp("When the answer comes at the latest, such as 5min.", valueName: "time"),
        transform: parseTime)
    var deadline: EndDeadline?

    @Flag(help: "Let new TDs in again.")
    var undo = false

    @Flag(help: "Only show how far it has come.")
    var status = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        guard [purpose != nil, undo, status].count(where: { $0 }) == 1 else {
            throw ValidationError("one of --for, --undo and --status")
        }
        guard purpose != nil || (policy == nil && deadline == nil) else {
            throw ValidationError("--policy and --deadline go with --for")
        }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let status: DrainStatus
        if let purpose {
            status = try context.follow(
                "drain", ManagerInterface.Drain.method,
                ManagerInterface.Drain.Parameters(
                    purpose: purpose, policy: policy, deadlineMilliseconds: deadline),
                as: ManagerInterface.Drain.Reply.self, progress: \.progress, result: \.status)
        } else {
            let method = undo ? ManagerInterface.Undrain.method : ManagerInterface.GetDrain.method
            status = try context.withManager { client throws(VarlinkClientError) in
                try client.call(method, as: StatusReply.self, timeout: .seconds(60)).status
            }
        }
        context.show(completed(status, as: "DrainStatus"), text: render(status, context.console.style))
        return status.ready || status.purpose == nil ? .ok : .tryAgain
    }
}

struct KexecCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kexec", abstract: "Shows whether another kernel may be started on this host.",
        subcommands: [KexecCheckCommand.self])

    @ParentCommand var root: Tdxctl
}

struct KexecCheckCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Checks everything that stands against kexec now. Changes nothing.",
        discussion: """
            VMs of other programs, such as QEMU's, count too. Where tdxd may not look at them and tdxctl runs as root, tdxctl \
            looks through /proc by itself and prints what it saw. The exit status is 0 if it is safe, 1 if it is not, and 6 if \
            that cannot be known.
            """)

    @OptionGroup var options: GlobalOptions
    @ParentCommand var kexec: KexecCommand
    var root: Tdxctl { kexec.root }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var reply = try context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.CheckKexec.method, as: ManagerInterface.CheckKexec.Reply.self, timeout: .seconds(120))
        }
        reply.lookAtOtherVMs()
        context.show(completedReply(reply, of: "CheckKexec"), text: render(reply, context.console.style))
        return reply.safe ? .ok : reply.isUnknown ? .unknown : .failed
    }
}
