package import Logging

/// One log message, ready to be written in either form.
package struct LogRecord {
    var label: String
    var identifier: String
    var level: Logger.Level
    var message: String
    /// Sorted by key.
    var metadata: [(key: String, value: String)]
    var file: String
    var function: String
    var line: UInt

    package init(
        label: String, identifier: String, level: Logger.Level, message: String,
        metadata: [(key: String, value: String)], file: String, function: String, line: UInt
    ) {
        self.label = label
        self.identifier = identifier
        self.level = level
        self.message = message
        self.metadata = metadata
        self.file = file
        self.function = function
        self.line = line
    }

    /// The syslog priority: 2 critical … 7 debug; trace is debug as well.
    package var priority: Int {
        switch level {
        case .critical: 2
        case .error: 3
        case .warning: 4
        case .notice: 5
        case .info: 6
        case .debug, .trace: 7
        }
    }

    /// The journal field's name for a metadata key: upper case, what is not a letter or digit becomes `_`. Keys that
    /// begin with `tdx` and `message_id` keep their name, all others get `TDXD_` before it: `td` is `TDXD_TD`,
    /// `tdx_status` is `TDX_STATUS`. At most 64 bytes, as the journal wants.
    package static func fieldName(_ key: String) -> String {
        let upper = key.utf8.map { byte -> UInt8 in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - 32
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): byte
            default: UInt8(ascii: "_")
            }
        }
        let name = String(decoding: upper, as: UTF8.self)
        let full = name.hasPrefix("TDX") || name == "MESSAGE_ID" ? name : "TDXD_" + name
        return String(decoding: full.utf8.prefix(64), as: UTF8.self)
    }

    /// `NAME=value`, at most 64: what is beyond is left out.
    package var journalFields: [String] {
        let own = [
            "MESSAGE=\(message)", "PRIORITY=\(priority)", "SYSLOG_IDENTIFIER=\(identifier)", "TDXD_LOGGER=\(label)",
            "CODE_FILE=\(file)", "CODE_LINE=\(line)", "CODE_FUNC=\(function)",
        ]
        let kind = JournalEvents.ids[message].map { ["MESSAGE_ID=\($0)"] } ?? []
        return own + kind + metadata.prefix(64 - own.count - kind.count).map { "\(Self.fieldName($0.key))=\($0.value)" }
    }

    /// The message and its metadata on one line; control characters, line breaks among them, are shown as escapes, so
    /// that no client can forge lines or send a terminal its codes.
    package var text: String {
        let pairs = metadata.map { " \($0.key)=\(Self.quoted($0.value))" }.joined()
        return Self.escaped(message) + pairs
    }

    private static func quoted(_ value: String) -> String {
        let escaped = escaped(value)
        return escaped.isEmpty || escaped.contains(where: { $0 == " " || $0 == "\"" || $0 == "=" })
            ? "\"" + escaped.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"") + "\""
            : escaped
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar.properties.generalCategory {
            case .control, .lineSeparator, .paragraphSeparator, .format: result += scalar.escaped(asASCII: true)
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
