internal import ArgumentParser
internal import CLinux
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// What every command takes, before or behind its name.
struct GlobalOptions: ParsableArguments {
    /// Where tdxd listens unless something else is said.
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

    /// What stands behind the command's name outweighs what stands before it.
    init(_ outer: GlobalOptions, _ inner: GlobalOptions, environment: [String: String], console: Console) {
        let named = environment["TDXD_SOCKET"].flatMap { $0.isEmpty ? nil : $0 }
        socket = inner.socket ?? outer.socket ?? named ?? GlobalOptions.standardSocket
        let short: JSONMode? =
            inner.printsJSON || outer.printsJSON ? (console.outputIsTerminal ? .pretty : .short) : nil
        json = inner.json ?? outer.json ?? short ?? .off
        self.console = console
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

/// 1 to 64 of a-z 0-9 . _ -
func parseName(_ text: String) throws -> String {
    let isAllowed = text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."),
            UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
    guard isAllowed, (1...64).contains(text.utf8.count) else {
        throw ValidationError("“\(printable(text))” is no name of a TD: that is 1 to 64 of a-z 0-9 . _ -")
    }
    return text
}

/// A number of bytes that pages divide, greater than zero.
func parseSize(_ text: String) throws -> ByteCount {
    let size: ByteCount
    do { size = try ByteCount(parsing: text) } catch { throw ValidationError("the size \(error)") }
    guard size > .zero else { throw ValidationError("the size must be greater than 0") }
    guard size.isPageAligned else {
        throw ValidationError("the size \(size.rawValue) is not a multiple of a page (\(pageSize) bytes)")
    }
    // Sizes travel as signed 64-bit numbers.
    guard size.rawValue <= UInt64(Int64.max) else { throw ValidationError("the size “\(text)” is beyond 2^63 − 1") }
    return size
}

/// The address of a page.
func parseAddress(_ text: String) throws -> GuestPhysicalAddress {
    let address: GuestPhysicalAddress
    do { address = try GuestPhysicalAddress(parsing: text) } catch { throw ValidationError("the address \(error)") }
    guard address.isPageAligned else {
        throw ValidationError("the address \(address) is not a multiple of a page (\(pageSize) bytes)")
    }
    guard address.rawValue <= UInt64(Int64.max) else {
        throw ValidationError("the address “\(text)” is beyond 2^63 − 1")
    }
    return address
}

/// 48 bytes as 96 hexadecimal digits.
func parseDigest(_ text: String) throws -> String {
    guard text.utf8.count == 96, text.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
        throw ValidationError(
            "“\(printable(text))” has \(text.count) characters: 48 bytes are 96 hexadecimal digits")
    }
    return text.lowercased()
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

func parseSide(_ text: String) throws -> MemorySide {
    guard let side = MemorySide(rawValue: text) else {
        throw ValidationError("“\(printable(text))” is no side: that is private or shared")
    }
    return side
}

func parsePolicy(_ text: String) throws -> StopPolicy {
    guard let policy = StopPolicy(rawValue: text) else {
        let known = StopPolicy.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("“\(printable(text))” is no policy: that is one of \(known)")
    }
    return policy
}

func parseWait(_ text: String) throws -> StopWait {
    guard let wait = StopWait(rawValue: text) else {
        throw ValidationError("“\(printable(text))” is nothing to wait for: that is proven or stopped")
    }
    return wait
}

/// A policy and nodes, such as bind:0,1 or interleave:0-3.
func parseNUMA(_ text: String) throws -> NUMAPolicy {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, let kind = NUMAPolicy.Kind(rawValue: String(parts[0])) else {
        throw ValidationError(
            "“\(printable(text))” is no NUMA policy: that is bind or interleave, “:” and nodes, as in bind:0,1 or "
                + "interleave:0-3")
    }
    guard let nodes = NodeSet(parsing: parts[1]), !nodes.isEmpty else {
        throw ValidationError(
            "“\(printable(String(parts[1])))” is no list of NUMA nodes from 0 to 63, such as 0, 0,1 or 0-3")
    }
    return NUMAPolicy(policy: kind, nodes: nodes.nodes)
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
        throw ValidationError("“\(printable(text))” is no purpose: that is one of \(known)")
    }
    return purpose
}

/// Bytes a second.
func parsePace(_ text: String) throws -> UInt64 {
    try parseLimited(text, "rate", "1M to 1T a second") { bytes throws(ControlError) in
        try ReleaseLimits.checkedPace(bytes)
    }
}

func parseChunk(_ text: String) throws -> UInt64 {
    try parseLimited(text, "chunk", "2M to 64M, a multiple of 2M") { bytes throws(ControlError) in
        try ReleaseLimits.checkedChunk(bytes)
    }
}

private func parseLimited(
    _ text: String, _ what: String, _ limit: String, _ check: (UInt64) throws(ControlError) -> UInt64
) throws -> UInt64 {
    let size: ByteCount
    do { size = try ByteCount(parsing: text) } catch { throw ValidationError("the \(what) \(error)") }
    do throws(ControlError) { return try check(size.rawValue) } catch {
        throw ValidationError("the \(what) “\(printable(text))” is not \(limit)")
    }
}

/// Milliseconds.
func parseDeadline(_ text: String) throws -> UInt64 {
    try parseTime(text, "deadline", "a time from 1s to 168h") { time throws(ControlError) in
        try ReleaseLimits.checkedDeadline(milliseconds: time)
    }
}

/// Milliseconds.
func parsePatience(_ text: String) throws -> UInt64 {
    try parseTime(text, "time", "one from 1ms to 168h") { time throws(ControlError) in
        try CreationLimits.checkedWait(milliseconds: time)
    }
}

private func parseTime(
    _ text: String, _ what: String, _ limit: String, _ check: (Int64) throws(ControlError) -> UInt64
) throws -> UInt64 {
    guard let time = Duration(parsing: text), let checked = try? check(time.wholeMilliseconds) else {
        throw ValidationError("the \(what) “\(printable(text))” is not \(limit) with unit ms, s, min or h")
    }
    return checked
}

/// The current directory; nil when it was removed or cannot be read.
private func workingDirectory() -> String? {
    guard let text = tdxd_working_directory() else { return nil }
    defer { tdxd_free_string(text) }
    return String(cString: text)
}
