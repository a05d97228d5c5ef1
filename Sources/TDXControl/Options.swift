internal import ArgumentParser
internal import CLinux
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// What every command takes, before or after its name.
struct GlobalOptions: ParsableArguments {
    /// Where tdxd listens by default.
    static let standardSocket = "/run/tdxd/tdxd.socket"

    @Option(
        help: ArgumentHelp(
            "tdxd's socket (default: $TDXD_SOCKET, or \(Self.standardSocket)).", valueName: "path"),
        completion: .file())
    var socket: String?

    @Option(help: ArgumentHelp("Print JSON: pretty, short or off.", valueName: "mode"))
    var json: JSONMode?

    @Flag(name: .customShort("j"), help: "Print JSON: pretty on a terminal, short elsewhere.")
    var printsJSON = false
}

/// What a command runs in.
struct Context: Sendable {
    let socket: String
    let json: JSONMode
    let console: Console
    /// This process's environment.
    let variables: [String: String]

    /// Options after the subcommand win over those before it.
    init(_ outer: GlobalOptions, _ inner: GlobalOptions, environment: [String: String], console: Console) {
        let named = environment["TDXD_SOCKET"].flatMap { $0.isEmpty ? nil : $0 }
        socket = inner.socket ?? outer.socket ?? named ?? GlobalOptions.standardSocket
        let short: JSONMode? =
            inner.printsJSON || outer.printsJSON ? (console.outputIsTerminal ? .pretty : .short) : nil
        json = inner.json ?? outer.json ?? short ?? .off
        self.console = console
        variables = environment
    }

    func tell(_ failure: Failure) {
        guard json == .off else {
            console.writeError(TDXControl.json(FailureRecord(failure), json))
            return
        }
        console.writeError("tdxctl: " + printable(failure.message) + "\n")
        if let hint = failure.hint { console.writeError("hint: " + printable(hint) + "\n") }
    }
}

// MARK: Values on the command line

/// A term of the interface, by the interface's own check.
func parseTerm<Term: CheckedTerm>(_ text: String) throws -> Term where Term.RawValue == String {
    do throws(Violation) { return try Term(checking: text) } catch {
        throw ValidationError("it must be \(error.limit)")
    }
}

func parseChoice<Choice: CheckedChoice>(_ text: String) throws -> Choice {
    do throws(Violation) { return try Choice(checking: text) } catch {
        throw ValidationError("it must be \(error.limit)")
    }
}

func parseNumber<Term: CheckedNumber>(_ text: String) throws -> Term {
    guard let number = Int64(text), let term = try? Term(checking: number) else {
        throw ValidationError("it must be \(Term.limit)")
    }
    return term
}

/// A number of bytes, such as 4M.
func parseBytes<Term: CheckedTerm>(_ text: String) throws -> Term where Term.RawValue == Int64 {
    let size: ByteCount
    do { size = try ByteCount(parsing: text) } catch { throw ValidationError("the size \(error)") }
    do throws(Violation) { return try Term(checking: try signed(size.rawValue)) } catch {
        throw ValidationError("it must be \(error.limit)")
    }
}

/// As `parseBytes`, of what has a least and a largest value.
func parseLimitedBytes<Term: CheckedNumber>(_ text: String) throws -> Term {
    let size: ByteCount
    do { size = try ByteCount(parsing: text) } catch { throw ValidationError("the size \(error)") }
    do throws(Violation) { return try Term(checking: size.rawValue) } catch {
        func words(_ bytes: Int64) -> String { "\(ByteCount(UInt64(clamping: bytes)))" }
        let range = "\(words(Term.range.lowerBound)) to \(words(Term.range.upperBound))"
        throw ValidationError(
            "it must be \(range)" + (Term.unit > 1 ? ", a multiple of \(words(Term.unit))" : ""))
    }
}

/// The address of a page.
func parseAddress(_ text: String) throws -> PageAddress {
    let address: GuestPhysicalAddress
    do { address = try GuestPhysicalAddress(parsing: text) } catch { throw ValidationError("the address \(error)") }
    do throws(Violation) { return try PageAddress(checking: try signed(address.rawValue)) } catch {
        throw ValidationError("it must be \(error.limit)")
    }
}

/// Numbers travel as signed 64-bit ones.
private func signed(_ number: UInt64) throws(Violation) -> Int64 {
    guard let signed = Int64(exactly: number) else { throw Violation(String(number), limit: "below 2^63") }
    return signed
}

/// A time, such as 90s, in milliseconds.
func parseTime<Term: CheckedNumber>(_ text: String) throws -> Term {
    guard let time = Duration(parsing: text), let term = try? Term(checking: time.wholeMilliseconds) else {
        let bounds = [Term.range.lowerBound, Term.range.upperBound].map { Duration.milliseconds($0).inWords }
        throw ValidationError("it must be \(bounds[0]) to \(bounds[1]), with unit ms, s, min or h")
    }
    return term
}

/// A path as it is seen from anywhere.
func parsePath(_ text: String) throws -> String {
    guard !text.isEmpty else { throw ValidationError("the path is empty") }
    let path = FilePath(text)
    guard path.isRelative else { return path.string }
    guard let here = workingDirectory() else {
        throw ValidationError("“\(printable(text))” is relative, and the current directory is gone")
    }
    return FilePath(here).pushing(path).lexicallyNormalized().string
}

func parseFirmware(_ text: String) throws -> FirmwarePath { try parseTerm(try parsePath(text)) }

func parseSide(_ text: String) throws -> MemorySide {
    guard let side = MemorySide(rawValue: text) else {
        throw ValidationError("invalid side “\(printable(text))”: it is private or shared")
    }
    return side
}

/// A policy and nodes, such as bind:0,1 or interleave:0-3.
func parseNUMA(_ text: String) throws -> NUMAPolicy {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, let kind = NUMAPolicy.Kind(rawValue: String(parts[0])) else {
        throw ValidationError(
            "invalid NUMA policy “\(printable(text))”: it is bind or interleave, “:” and nodes, as in bind:0,1 or "
                + "interleave:0-3")
    }
    guard let nodes = NodeSet(parsing: parts[1]), !nodes.isEmpty else {
        throw ValidationError(
            "invalid list of NUMA nodes “\(printable(String(parts[1])))”: numbers from 0 to 63, such as 0, 0,1 or 0-3")
    }
    return NUMAPolicy(policy: kind, nodes: NUMANodes(unchecked: nodes.nodes))
}

/// One of the cases of an enumeration, by its name; a hyphen counts as an underscore.
func parseCase<Value: RawRepresentable<String> & CaseIterable & Sendable>(
    _ what: String
) -> @Sendable (String) throws -> Value {
    let names = Value.allCases.map(\.rawValue)
    let values = Dictionary(Value.allCases.map { ($0.rawValue, $0) }, uniquingKeysWith: { first, _ in first })
    return { text in
        let underscored = text.split(separator: "-", omittingEmptySubsequences: false).joined(separator: "_")
        guard let value = values[text] ?? values[underscored] else {
            throw ValidationError(
                "invalid \(what) “\(printable(text))”: one of \(names.joined(separator: ", ")) is needed")
        }
        return value
    }
}

/// Columns of `tdxctl list`, separated by commas.
func parseColumns(_ text: String) throws -> [DomainColumn] {
    try text.split(separator: ",", omittingEmptySubsequences: false).map { try parseCase("column")(String($0)) }
}

func parsePurpose(_ text: String) throws -> DrainPurpose {
    guard let purpose = DrainPurpose.allCases.first(where: { $0.words == text }) else {
        let known = DrainPurpose.allCases.map(\.words).joined(separator: ", ")
        throw ValidationError("invalid purpose “\(printable(text))”: it is one of \(known)")
    }
    return purpose
}

/// The current directory; nil when it was removed or cannot be read.
private func workingDirectory() -> String? {
    guard let text = tdxd_working_directory() else { return nil }
    defer { tdxd_free_string(text) }
    return String(cString: text)
}
