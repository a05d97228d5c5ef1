/// An input that is refused: which field, what it was, and what it may be. Nothing was changed.
///
/// Every check of what comes from outside (client, file, holder, VMM) throws this type.
public struct Refusal: Error, Hashable, Sendable {
    /// As the sender names it, such as `memory_bytes` or `numa.nodes`.
    public var field: String
    /// As it was sent: printable, at most 64 characters.
    public var value: String
    /// What it may be; continues the sentence "it must be …".
    public var limit: String

    public init(field: String, value: String, limit: String) {
        self.field = field
        self.value = value
        self.limit = limit
    }

    /// A sent text as an error or the log repeats it: at most 64 characters, control characters replaced by U+FFFD.
    public static func quoting(_ text: String) -> String {
        var shown = String.UnicodeScalarView()
        var scalars = text.unicodeScalars.makeIterator()
        for _ in 0..<64 {
            guard let scalar = scalars.next() else { return String(shown) }
            shown.append(scalar.properties.generalCategory == .control ? "\u{FFFD}" : scalar)
        }
        return scalars.next() == nil ? String(shown) : String(shown) + "…"
    }
}

extension Refusal: CustomStringConvertible {
    public var description: String { "\(field) is \(value); it must be \(limit)" }
}
