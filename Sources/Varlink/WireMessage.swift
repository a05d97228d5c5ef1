/// Names a parameterless call's or reply's parameters.
public struct NoParameters: Codable, Hashable, Sendable {
    public init() {}
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
        var bytes = try JSONWriter.bytes(of: message)
        bytes.append(0)
        return bytes
    }

    /// Reads a header. What is nested deeper than the limit gets to nothing that recurses.
    static func header<Header: MessageHeader>(
        _ type: Header.Type, of message: [UInt8], depthLimit: Int
    ) throws(ProtocolViolation) -> Header {
        let document: JSONPart
        do throws(JSONFlaw) { document = try JSONPart(message, depthLimit: depthLimit) } catch {
            switch error {
            case .malformed(let reason): throw .notJSON(reason)
            case .nestedTooDeeply: throw .nestedTooDeeply(limit: depthLimit)
            }
        }
        guard document.isObject else { throw .notAMessage("it is not an object") }
        do throws(HeaderFlaw) { return try Header(document) } catch { throw .notAMessage(error.reason) }
    }

    /// Reads a message's parameters.
    /// - Parameter parameters: those of its header; none count as an empty object.
    static func parameters<Parameters: Decodable>(_ type: Parameters.Type, _ parameters: JSONPart?) throws -> Parameters
    {
        try Parameters(from: PartDecoder(parameters ?? .object([])))
    }

    /// Reads the parameters of a message that was read before, or made here.
    static func parameters<Parameters: Decodable>(_ type: Parameters.Type, of message: [UInt8]) throws -> Parameters {
        let header = try header(ReplyHeader.self, of: message, depthLimit: VarlinkLimits().nestingDepth)
        return try parameters(type, header.parameters)
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
        for key in path {
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
