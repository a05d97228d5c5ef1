/// A value that is checked when it is made, and so also while it is decoded: no program has one that breaks its rule.
///
/// What does not decode is answered by a `Refusal` that names the field by its place in the message.
public protocol CheckedTerm: Codable, Hashable, Sendable, CustomStringConvertible {
    /// As it is on the wire.
    associatedtype RawValue: Codable & Hashable & Sendable

    var rawValue: RawValue { get }

    /// - Parameter rawValue: one that `violation(of:)` has nothing against; tests of a server send others.
    init(unchecked rawValue: RawValue)

    /// Why the value is refused; nil for one that is accepted.
    static func violation(of rawValue: RawValue) -> Violation?
}

/// What a value is and what it must be, before it is known which field it came in.
public struct Violation: Error, Hashable, Sendable {
    /// Printable, at most 64 characters.
    public var value: String
    /// Continues the sentence "it must be …".
    public var limit: String

    public init(_ value: String, limit: String) {
        self.value = value
        self.limit = limit
    }
}

extension Refusal {
    public init(_ violation: Violation, in field: String) {
        self.init(field: field, value: violation.value, limit: violation.limit)
    }
}

extension CheckedTerm {
    /// - Throws: why the value is refused.
    public init(checking rawValue: RawValue) throws(Violation) {
        if let violation = Self.violation(of: rawValue) { throw violation }
        self.init(unchecked: rawValue)
    }

    /// - Parameter field: for the refusal.
    public init(checking rawValue: RawValue, in field: String) throws(Refusal) {
        if let violation = Self.violation(of: rawValue) { throw Refusal(violation, in: field) }
        self.init(unchecked: rawValue)
    }

    /// Nil for a value that is refused.
    public init?(rawValue: RawValue) {
        guard Self.violation(of: rawValue) == nil else { return nil }
        self.init(unchecked: rawValue)
    }

    /// - Throws: `Refusal` for a value that breaks the rule; `DecodingError` for one of another type.
    public init(from decoder: any Decoder) throws {
        let rawValue = try decoder.singleValueContainer().decode(RawValue.self)
        try self.init(checking: rawValue, in: fieldName(decoder.codingPath))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }

    public var description: String { "\(rawValue)" }
}

/// A whole number in a range, perhaps a multiple of a unit.
public protocol CheckedNumber: CheckedTerm, Comparable where RawValue == Int64 {
    static var range: ClosedRange<Int64> { get }
    /// What the number must be a multiple of.
    static var unit: Int64 { get }
    /// In words, after the range, such as ` ms`.
    static var unitName: String { get }
}

extension CheckedNumber {
    public static var unit: Int64 { 1 }
    public static var unitName: String { "" }

    /// As an error has it.
    public static var limit: String {
        if range.upperBound == .max { return "at least \(range.lowerBound)" }
        let bounds = "\(range.lowerBound) to \(range.upperBound)\(unitName)"
        return unit == 1 ? bounds : "a multiple of \(unit) from " + bounds
    }

    public static func violation(of rawValue: Int64) -> Violation? {
        guard range.contains(rawValue), rawValue % unit == 0 else {
            return Violation(String(rawValue), limit: limit)
        }
        return nil
    }

    /// - Throws: why the number is refused.
    public init(checking number: some BinaryInteger) throws(Violation) {
        guard let rawValue = Int64(exactly: number) else { throw Violation(String(number), limit: Self.limit) }
        if let violation = Self.violation(of: rawValue) { throw violation }
        self.init(unchecked: rawValue)
    }

    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// One of a few words. Unlike an enumeration of the interface it is a string on the wire, so that a word that is not
/// known gets an error with the known ones.
public protocol CheckedChoice: RawRepresentable<String>, CaseIterable, Codable, Hashable, Sendable {}

extension CheckedChoice {
    /// - Throws: why the word is refused.
    public init(checking text: String) throws(Violation) {
        guard let choice = Self(rawValue: text) else {
            throw Violation(
                Refusal.quoting(text), limit: "one of " + Self.allCases.map(\.rawValue).joined(separator: ", "))
        }
        self = choice
    }

    /// What a choice decodes by: each type's own `init(from:)` calls it.
    init(checkingIn decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        do throws(Violation) { try self.init(checking: text) } catch {
            throw Refusal(error, in: fieldName(decoder.codingPath))
        }
    }
}

/// Where in a message something is, such as `vcpus` or `request.numa.nodes`.
private func fieldName(_ path: [any CodingKey]) -> String {
    var text = ""
    for key in path {
        if let index = key.intValue {
            text += "[\(index)]"
        } else {
            text += (text.isEmpty ? "" : ".") + key.stringValue
        }
    }
    return text.isEmpty ? "parameters" : text
}
