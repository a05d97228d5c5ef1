internal import ArgumentParser
internal import ControlInterface
internal import MemoryUnits
internal import Varlink

struct ListCommand: ControlCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists the TDs of this host.")

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let domains = try context.withManager { client throws(VarlinkClientError) in
            try client.call(ManagerInterface.List.method, as: ManagerInterface.List.Reply.self).domains
        }.sorted { $0.name < $1.name }
        context.show(
            domains.map { completed($0, as: "TrustDomain") }, text: render(domains, context.console.style))
        return .ok
    }
}

struct ShowCommand: ControlCommand {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Shows one TD in full.")

    @Argument(help: "The TD's name.", transform: parseName)
    var name: String

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let domain = try context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.Show.method, ManagerInterface.Show.Parameters(name: name),
                as: ManagerInterface.Show.Reply.self
            ).domain
        }
        context.show(completed(domain, as: "TrustDomain"), text: render(domain, context.console.style))
        return .ok
    }
}

struct ConvertCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Makes a range of a TD's memory private or shared.",
        discussion: """
            What the range held is discarded: its next use is a fresh zeroed page. Ctrl-C ends a long conversion between \
            two pieces of 64 MiB: what is converted by then stays so, the rest is as it was.
            """)

    @Argument(help: "The TD's name.", transform: parseName)
    var name: String

    @Option(
        help: ArgumentHelp("Where the range begins, such as 0x1000000.", valueName: "address"), transform: parseAddress)
    var gpa: GuestPhysicalAddress

    @Option(
        help: ArgumentHelp("How long it is, such as 4M (powers of 1,024).", valueName: "size"), transform: parseSize)
    var size: ByteCount

    @Option(
        help: ArgumentHelp("private or shared.", valueName: "side"),
        completion: .list(MemorySide.allCases.map(\.rawValue)), transform: parseSide)
    var to: MemorySide

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        guard GuestPhysicalRange(validating: gpa, size: size) != nil else {
            throw ValidationError("the range from \(gpa) on, \(size.rawValue) bytes long, goes beyond 64 bits")
        }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let reply = try context.follow(
            "convert \(name)", ManagerInterface.Convert.method,
            ManagerInterface.Convert.Parameters(name: name, gpa: gpa.rawValue, bytes: size.rawValue, to: to),
            as: ManagerInterface.Convert.Reply.self, progress: \.progress, result: \.self)
        context.show(reply, text: render(reply))
        return .ok
    }
}
