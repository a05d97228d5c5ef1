internal import CLinux
internal import Synchronization
internal import SystemPackage

/// Where output goes, and what it may contain there.
struct Console: Sendable {
    /// Standard output is a terminal.
    var outputIsTerminal: Bool
    /// Standard error is a terminal.
    var errorIsTerminal: Bool
    /// Columns of the terminal; 80 where there is none.
    var width: Int
    /// Colours are wanted: a terminal, no NO_COLOR, no dumb terminal.
    var style: Style
    var write: @Sendable (String) -> Void
    var writeError: @Sendable (String) -> Void
    /// Whether some of what went to `write` got lost, as on a full disk.
    var lostOutput: @Sendable () -> Bool = { false }

    static func current(environment: [String: String]) -> Console {
        let output = tdxd_is_terminal(1) == 1
        let colours = output && (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb"
        let columns = Int(tdxd_terminal_columns(2))
        return Console(
            outputIsTerminal: output, errorIsTerminal: tdxd_is_terminal(2) == 1, width: columns > 0 ? columns : 80,
            style: colours ? .colours : .plain,
            write: { if !put($0, 1) { outputIsLost.store(true, ordering: .relaxed) } },
            writeError: { _ = put($0, 2) }, lostOutput: { outputIsLost.load(ordering: .relaxed) })
    }
}

private let outputIsLost = Atomic(false)

/// - Returns: Whether all of it was written.
private func put(_ text: String, _ descriptor: Int32) -> Bool {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
        let count = Int(rest.withUnsafeBytes { tdxd_write(descriptor, $0.baseAddress!, $0.count) })
        if count == -Int(Errno.interrupted.rawValue) { continue }
        guard count > 0 else { return false }
        rest.removeFirst(count)
    }
    return true
}

/// What a piece of text is, which a terminal may show by a colour.
enum Paint: Sendable {
    case none, bold, dim, good, bad, doubtful
}

/// Colours, or none.
enum Style: Sendable {
    case plain
    case colours

    func bold(_ text: String) -> String { painted(text, .bold) }
    func dim(_ text: String) -> String { painted(text, .dim) }
    func good(_ text: String) -> String { painted(text, .good) }
    func bad(_ text: String) -> String { painted(text, .bad) }
    func doubtful(_ text: String) -> String { painted(text, .doubtful) }

    func painted(_ text: String, _ paint: Paint) -> String {
        guard self == .colours, !text.isEmpty, paint != .none else { return text }
        let code =
            switch paint {
            case .none: "0"
            case .bold: "1"
            case .dim: "2"
            case .good: "32"
            case .bad: "31;1"
            case .doubtful: "33"
            }
        return "\u{1b}[\(code)m\(text)\u{1b}[0m"
    }
}

/// What came from elsewhere, fit to be shown: control characters, which could redraw the terminal, are spelt out.
func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
        if isControl(scalar) {
            result += "\\u{" + String(scalar.value, radix: 16) + "}"
        } else {
            result.unicodeScalars.append(scalar)
        }
    }
    return result
}

/// Controls (C0, C1), formats (also those that turn the direction of text), line and paragraph separators.
func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
}
