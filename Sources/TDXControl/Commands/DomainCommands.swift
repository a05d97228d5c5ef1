internal import ArgumentParser
internal import ControlInterface
internal import MemoryUnits
internal import Varlink

struct ListCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the TDs of this host.",
        discussion: """
            Columns: \(DomainColumn.allCases.map(\.rawValue).joined(separator: ", ")). RESIDENT is what the TD's memory \
            takes of the host now; KEY is its key id; HOLDER is the process that holds it.
            """)

    @Argument(
        help: "Only these: names, patterns such as 'web*', ids, or the first digits of an id.",
        completion: .custom { _, _, _ in DomainSelection.knownNames() }, transform: DomainPattern.init)
    var patterns: [DomainPattern] = []

    @Option(
        help: ArgumentHelp("Only TDs in this state.", valueName: "state"),
        completion: .list(TrustDomainState.allCases.map(\.rawValue)), transform: parseCase("state"))
    var state: TrustDomainState?

    @Option(
        help: ArgumentHelp("Only TDs on this backend.", valueName: "backend"),
        completion: .list(Backend.allCases.map(\.rawValue)), transform: parseCase("backend"))
    var backend: Backend?

    @Option(
        help: ArgumentHelp("Sort by this column (default: name).", valueName: "column"),
        completion: .list(DomainColumn.allCases.map(\.rawValue)), transform: parseCase("column"))
    var sort = DomainColumn.name

    @Flag(name: .shortAndLong, help: "Sort the other way.")
    var reverse = false

    @Option(
        name: [.customShort("o"), .long],
        help: ArgumentHelp("Show these columns, separated by commas.", valueName: "columns"),
        completion: .list(DomainColumn.allCases.map(\.rawValue)), transform: parseColumns)
    var columns: [DomainColumn]?

    @Flag(help: "No titles, and no line with the number of TDs.")
    var noLegend = false

    @Flag(name: .shortAndLong, help: "Names only, one a line.")
    var quiet = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var domains = try context.domains()
        if !patterns.isEmpty {
            let chosen = Set(patterns.flatMap { $0.matches(in: domains, name: \.name, id: \.id).map(\.id) })
            domains = domains.filter { chosen.contains($0.id) }
        }
        domains = domains.filter { (state ?? $0.state) == $0.state && (backend ?? $0.backend) == $0.backend }
        // They are in order of their names; those that are equal in the column stay so.
        domains = domains.enumerated().sorted { a, b in
            sort.precedes(a.element, b.element) ?? (a.offset < b.offset)
        }.map(\.element)
        if reverse { domains.reverse() }
        guard context.json == .off else {
            context.show(domains.map { completed($0, as: "TrustDomain") }, text: "")
            return .ok
        }
        context.console.write(
            quiet
                ? domains.map { printable($0.name) + "\n" }.joined()
                : render(domains, columns: columns, hasLegend: !noLegend, context.console.style))
        return .ok
    }
}

struct ShowCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Shows TDs in full.",
        discussion: "With JSON one TD by its name or id is an object; several, a pattern or --all are an array.")

    @OptionGroup var selection: DomainSelection
    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var documents: [JSONValue] = []
        var isFirst = true
        let status = context.forEach(try selection.names(context)) { name throws(Failure) in
            let domain = try context.withManager { client throws(VarlinkClientError) in
                try client.call(
                    ManagerInterface.Show.method,
                    ManagerInterface.Show.Parameters(name: TrustDomainName(unchecked: name)),
                    as: ManagerInterface.Show.Reply.self
                ).domain
            }
            guard context.json == .off else {
                documents.append(completed(domain, as: "TrustDomain"))
                return .ok
            }
            context.console.write((isFirst ? "" : "\n") + render(domain, context.console.style))
            isFirst = false
            return .ok
        }
        context.showDocuments(documents, isSingle: selection.isSingle)
        return status
    }
}

struct ConvertCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Makes a range of a TD's memory private or shared.",
        discussion: """
            What the range held is discarded: its next use is a fresh zeroed page. Ctrl-C ends a long conversion between \
            two pieces of 64 MiB: what is converted by then stays so, the rest is as it was.
            """)

    @Argument(help: "The TD's name.", transform: parseTerm)
    var name: TrustDomainName

    @Option(
        help: ArgumentHelp("Where the range begins, such as 0x1000000.", valueName: "address"), transform: parseAddress)
    var gpa: PageAddress

    @Option(
        help: ArgumentHelp("How long it is, such as 4M (powers of 1,024).", valueName: "size"), transform: parseBytes)
    var size: PageSpan

    @Option(
        help: ArgumentHelp("private or shared.", valueName: "side"),
        completion: .list(MemorySide.allCases.map(\.rawValue)), transform: parseSide)
    var to: MemorySide

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        do throws(Refusal) { _ = try gpa.range(size) } catch {
            throw ValidationError("--size is \(error.value): it must be \(error.limit)")
        }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let reply = try context.follow(
            "convert \(name)", ManagerInterface.Convert.method,
            ManagerInterface.Convert.Parameters(name: name, gpa: gpa, bytes: size, to: to),
            as: ManagerInterface.Convert.Reply.self, progress: \.progress, result: \.self)
        context.show(reply, text: render(reply))
        return .ok
    }
}
