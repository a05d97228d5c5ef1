internal import Varlink

/// Why an interface cannot be written as Swift.
public struct GeneratorError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The declaration, as `VarlinkInterface.comments` names it; empty for the interface.
    public var place: String
    public var reason: String

    public var description: String { place.isEmpty ? reason : "\(place): \(reason)" }
}

/// What a comment adds to a declaration: text for people, and lines that begin with “@”.
struct Annotations {
    /// The lines for people, without the annotations.
    var text: [String] = []
    private var values: [String: [String]] = [:]

    /// Annotations of an interface, of a member, of a field or case.
    private static let known: Set<String> = [
        "extends", "field", "term", "swift", "nested", "same", "streams", "parameters", "reply", "reply-of", "type",
        "list", "name", "default",
    ]

    init(_ lines: [String]?, at place: String) throws(GeneratorError) {
        for line in lines ?? [] {
            guard line.hasPrefix("@") else {
                text.append(line)
                continue
            }
            let parts = line.dropFirst().split(separator: " ", maxSplits: 1)
            guard let name = parts.first.map(String.init), Self.known.contains(name) else {
                throw GeneratorError(place: place, reason: "“\(line)” is not a known annotation")
            }
            values[name, default: []].append(parts.count > 1 ? String(parts[1]) : "")
        }
    }

    func has(_ name: String) -> Bool { values[name] != nil }
    func all(_ name: String) -> [String] { values[name] ?? [] }
    subscript(_ name: String) -> String? { values[name]?.last }
}

/// The Swift type of the fields of a name: `@field NAME TYPE [LOWEST...HIGHEST]` or `@field NAME TYPE = EXPRESSION`.
struct FieldRule {
    /// With a leading “*” the end of the name.
    var pattern: String
    var type: String
    /// What a number must lie in, as Swift source.
    var range: String?
    /// What the field follows from, as Swift source: no initialiser takes it.
    var derivation: String?

    init(_ line: String) throws(GeneratorError) {
        let parts = line.split(separator: " ").map(String.init)
        guard parts.count >= 2 else {
            throw GeneratorError(place: "", reason: "“@field \(line)” has no name and type")
        }
        pattern = parts[0]
        type = parts[1]
        if parts.count > 3, parts[2] == "=" {
            derivation = parts[3...].joined(separator: " ")
        } else if parts.count == 3 {
            range = try Self.range(parts[2], line)
        } else if parts.count > 2 {
            throw GeneratorError(place: "", reason: "“@field \(line)” has more than a range after its type")
        }
    }

    /// `0...2^52` as `0...1 << 52`.
    private static func range(_ text: String, _ line: String) throws(GeneratorError) -> String {
        let bounds = text.split(separator: ".", omittingEmptySubsequences: true).map { bound in
            let parts = bound.split(separator: "^").compactMap { Int($0) }
            return parts.count == 2 && parts[0] == 2 ? "1 << \(parts[1])" : parts.count == 1 ? "\(parts[0])" : ""
        }
        guard bounds.count == 2, !bounds.contains("") else {
            throw GeneratorError(place: "", reason: "“@field \(line)” ends with no range such as 0...2^52")
        }
        return bounds.joined(separator: "...")
    }

    func applies(to name: String) -> Bool {
        pattern.hasPrefix("*") ? name.hasSuffix(pattern.dropFirst()) : name == pattern
    }
}
