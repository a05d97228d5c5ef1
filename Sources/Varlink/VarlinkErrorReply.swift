/// An error as it goes over the wire: a name such as `io.example.Store.NotFound`, and parameters.
///
/// A server makes one to answer a call with; a client gets one from a call that failed.
public struct VarlinkErrorReply: Error, Sendable {
    public let name: String
    /// The whole message, terminator included when it was made here.
    let message: [UInt8]

    /// - Precondition: `parameters` encodes as a JSON object.
    public init(_ name: String, _ parameters: some Encodable & Sendable = NoParameters()) {
        self.name = name
        do {
            message = try MessageCoding.reply(parameters, error: name)
        } catch {
            preconditionFailure("the parameters of \(name) do not encode: \(error)")
        }
    }

    init(received name: String, message: [UInt8]) {
        self.name = name
        self.message = message
    }

    /// The part of the name before the last dot.
    public var interface: String { splitMember(name)?.interface ?? "" }
    /// The part of the name after the last dot.
    public var shortName: String { splitMember(name)?.member ?? name }

    /// - Throws: a `DecodingError` when the parameters are not of this type.
    public func parameters<Parameters: Decodable>(as type: Parameters.Type) throws -> Parameters {
        try MessageCoding.parameters(type, of: message.last == 0 ? message.dropLast() : message)
    }
}

extension VarlinkErrorReply: CustomStringConvertible {
    public var description: String { name }
}

/// Splits `io.example.Store.Get` into `io.example.Store` and `Get`.
func splitMember(_ name: String) -> (interface: String, member: String)? {
    guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return nil }
    let member = name[name.index(after: dot)...]
    return member.isEmpty ? nil : (String(name[..<dot]), String(member))
}

/// The errors that every varlink service shares.
public enum ServiceError {
    public static let interface = "org.varlink.service"

    public static func interfaceNotFound(_ name: String) -> VarlinkErrorReply {
        VarlinkErrorReply(interface + ".InterfaceNotFound", ["interface": name])
    }
    public static func methodNotFound(_ method: String) -> VarlinkErrorReply {
        VarlinkErrorReply(interface + ".MethodNotFound", ["method": method])
    }
    public static func methodNotImplemented(_ method: String) -> VarlinkErrorReply {
        VarlinkErrorReply(interface + ".MethodNotImplemented", ["method": method])
    }
    /// - Parameter reason: for people; not part of the standard.
    public static func invalidParameter(_ parameter: String, reason: String? = nil) -> VarlinkErrorReply {
        VarlinkErrorReply(
            interface + ".InvalidParameter", InvalidParameter(parameter: parameter, reason: reason))
    }

    /// What `invalidParameter` carries.
    public struct InvalidParameter: Codable, Hashable, Sendable {
        public var parameter: String
        public var reason: String?
    }
}
