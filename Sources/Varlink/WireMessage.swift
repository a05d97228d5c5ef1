internal import FoundationEssentials

/// Names a parameterless call's or reply's parameters.
public struct NoParameters: Codable, Hashable, Sendable {
    public init() {}
}

/// The parts of a call that decide where it goes.
struct CallHeader: Decodable {
    var method: String
    var more: Bool?
    var oneway: Bool?
    var upgrade: Bool?
    var parameters: ObjectShape?
}

/// The parts of a reply that say what it is.
struct ReplyHeader: Decodable {
    var error: String?
    var continues: Bool?
    var parameters: ObjectShape?
}

/// Decodes from any JSON object, whatever is in it, and from nothing else.
struct ObjectShape: Decodable {
    private enum NoKey: CodingKey {}
    init(from decoder: any Decoder) throws { _ = try decoder.container(keyedBy: NoKey.self) }
}

private struct OutgoingCall<Parameters: Encodable>: Encodable {
    var method: String
    var parameters: Parameters
    var more: Bool?
    var oneway: Bool?
}

private struct OutgoingReply<Parameters: Encodable>: Encodable {
    var parameters: Parameters
    var error: String?
    var continues: Bool?
}

private struct ParametersOnly<Parameters: Decodable>: Decodable {
    var parameters: Parameters
}

private struct OptionalParameters<Parameters: Decodable>: Decodable {
    var parameters: Parameters?
}

/// Turns values into wire messages and back.
enum MessageCoding {
    static func call(
        _ method: String, _ parameters: some Encodable, more: Bool = false, oneway: Bool = false
    ) throws -> [UInt8] {
        try terminated(
            OutgoingCall(
                method: method, parameters: parameters, more: more ? true : nil, oneway: oneway ? true : nil))
    }

    static func reply(_ parameters: some Encodable, error: String? = nil, continues: Bool = false) throws -> [UInt8] {
        try terminated(OutgoingReply(parameters: parameters, error: error, continues: continues ? true : nil))
    }

    private static func terminated(_ message: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(message)) + [0]
    }

    /// Reads a header, after making sure that the message may be handed to a recursive parser.
    static func header<Header: Decodable>(
        _ type: Header.Type, of message: [UInt8], depthLimit: Int
    ) throws(ProtocolViolation) -> Header {
        guard nestingDepth(of: message) <= depthLimit else { throw .nestedTooDeeply(limit: depthLimit) }
        do {
            return try JSONDecoder().decode(type, from: Data(message))
        } catch let error as DecodingError {
            if case .dataCorrupted(let context) = error, context.codingPath.isEmpty {
                throw .notJSON(context.debugDescription)
            }
            throw .notAMessage(describe(error))
        } catch {
            throw .notJSON("\(error)")
        }
    }

    /// Reads a message's parameters. A message without any counts as one with an empty object.
    static func parameters<Parameters: Decodable>(
        _ type: Parameters.Type, of message: [UInt8]
    ) throws -> Parameters {
        let data = Data(message)
        if let found = try JSONDecoder().decode(OptionalParameters<Parameters>.self, from: data).parameters {
            return found
        }
        return try JSONDecoder().decode(ParametersOnly<Parameters>.self, from: Data(#"{"parameters":{}}"#.utf8))
            .parameters
    }

    /// How many objects and arrays are open at once at most. Strings are skipped; anything malformed is the parser's.
    static func nestingDepth(of message: [UInt8]) -> Int {
        var depth = 0
        var deepest = 0
        var inString = false
        var escaped = false
        for byte in message {
            if inString {
                if escaped {
                    escaped = false
                } else if byte == UInt8(ascii: "\\") {
                    escaped = true
                } else if byte == UInt8(ascii: "\"") {
                    inString = false
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): inString = true
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                deepest = max(deepest, depth)
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            default: break
            }
        }
        return deepest
    }

    /// The parameter that a decoding error is about, such as `vcpus` or `phases[2].bytes`; `parameters` for all of them.
    static func fieldName(_ error: DecodingError) -> String {
        let path: [any CodingKey] =
            switch error {
            case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
                context.codingPath
            case .keyNotFound(let key, let context): context.codingPath + [key]
            @unknown default: []
            }
        var text = ""
        for key in path.drop(while: { $0.stringValue == "parameters" }) {
            if let index = key.intValue {
                text += "[\(index)]"
            } else {
                text += (text.isEmpty ? "" : ".") + key.stringValue
            }
        }
        return text.isEmpty ? "parameters" : text
    }

    static func describe(_ error: DecodingError) -> String {
        switch error {
        case .typeMismatch(let type, _): "“\(fieldName(error))” is not of type \(type)"
        case .valueNotFound: "“\(fieldName(error))” is null"
        case .keyNotFound: "“\(fieldName(error))” is missing"
        case .dataCorrupted(let context): context.debugDescription
        @unknown default: "\(error)"
        }
    }
}
