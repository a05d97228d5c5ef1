internal import ControlInterface

/// The name of a TD as its user gives it: 1 to 64 of `a`–`z`, `0`–`9`, `.`, `_` and `-`.
struct DomainName: Hashable, Sendable, CustomStringConvertible {
    let text: String

    static let limit = "1 to 64 characters of a-z 0-9 . _ -"
    static let maximumLength = 64

    /// - Throws: `ControlError.invalidField` with the first 64 characters of what was sent.
    init(validating text: String) throws(ControlError) {
        let bytes = text.utf8
        guard (1...Self.maximumLength).contains(bytes.count), bytes.allSatisfy(Self.isAllowed) else {
            throw .invalidField(field: "name", value: ControlError.quoting(text), limit: Self.limit)
        }
        self.text = text
    }

    /// The name of a TD that is to be made: it begins with a letter or digit, so that no command line takes it for an option.
    ///
    /// - Throws: `ControlError.invalidField`. TDs that have another name from former versions keep it.
    init(forNew text: String) throws(ControlError) {
        try self.init(validating: text)
        guard let first = text.utf8.first, Self.isAllowed(first), !".-_".utf8.contains(first) else {
            throw .invalidField(
                field: "name", value: ControlError.quoting(text),
                limit: Self.limit + " that begin with a letter or digit")
        }
    }

    var description: String { text }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
        default: false
        }
    }
}

extension ControlError {
    /// What a client sent, as it is repeated in an error or the log: at most 64 characters, no control characters.
    static func quoting(_ text: String) -> String { Refusal.quoting(text) }
}
