/// A type of the interface language.
public indirect enum VarlinkType: Hashable, Sendable {
    case bool, int, float, string, object
    /// `any`, which some implementations know.
    case any
    /// A type declared in the interface.
    case named(String)
    case optional(VarlinkType)
    case array(VarlinkType)
    /// `[string]T`
    case map(VarlinkType)
    case structure([VarlinkField])
    case enumeration([String])
}

/// A field of a structure, in the order of the text.
public struct VarlinkField: Hashable, Sendable {
    public var name: String
    public var type: VarlinkType

    public init(_ name: String, _ type: VarlinkType) {
        self.name = name
        self.type = type
    }
}

/// What is wrong with an interface's text.
public struct InterfaceError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Counted from 1; 0 where it is about the whole.
    public var line: Int
    public var reason: String

    public var description: String { line > 0 ? "line \(line): \(reason)" : reason }
}

/// A parsed interface description.
public struct VarlinkInterface: Hashable, Sendable {
    public struct Method: Hashable, Sendable {
        public var parameters: [VarlinkField]
        public var reply: [VarlinkField]
    }

    public internal(set) var name = ""
    public internal(set) var types: [String: VarlinkType] = [:]
    public internal(set) var methods: [String: Method] = [:]
    public internal(set) var errors: [String: [VarlinkField]] = [:]
    /// The names of types, methods and errors in the order of the text.
    public internal(set) var order: [String] = []
    /// The comment lines directly above a declaration, without “#”, where there are any. Keys: empty for the interface,
    /// `Store` for a type, method or error, `Store.path` for a field, case or parameter, `Store->size` for a field of the
    /// reply.
    public internal(set) var comments: [String: [String]] = [:]
    /// The text that was parsed.
    public internal(set) var text = ""

    /// The declaration of a name; every other type stands for itself.
    public func resolve(_ type: VarlinkType) -> VarlinkType {
        guard case .named(let name) = type, let found = types[name] else { return type }
        return resolve(found)
    }
}
