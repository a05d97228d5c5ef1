/// Any JSON value, for looking at messages whose type is known only at run time.
public indirect enum JSONValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])
}

extension JSONValue: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .int(value)
        } else if let value = try? container.decode(Double.self) {
            self = .double(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .int(let value): try container.encode(value)
        case .double(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}

/// A value that is not of the type that an interface declares.
public struct TypeMismatch: Error, Hashable, Sendable, CustomStringConvertible {
    /// Where in the value, such as `runs[3].gpa`.
    public var field: String
    public var reason: String

    public var description: String { "“\(field)” \(reason)" }
}

extension VarlinkInterface {
    /// Checks an object against declared fields: all that are not optional are there, none is unknown, and each is of
    /// its type. Numbers with a fraction are no `int`.
    public func check(_ object: [String: JSONValue], against fields: [VarlinkField]) throws(TypeMismatch) {
        try check(object, against: fields, at: "")
    }

    private func check(
        _ object: [String: JSONValue], against fields: [VarlinkField], at path: String
    ) throws(TypeMismatch) {
        let prefix = path.isEmpty ? "" : path + "."
        for field in fields {
            try check(object[field.name] ?? .null, against: field.type, at: prefix + field.name)
        }
        let known = Set(fields.map(\.name))
        if let unknown = object.keys.filter({ !known.contains($0) }).min() {
            throw TypeMismatch(field: prefix + unknown, reason: "is not known")
        }
    }

    private func check(_ value: JSONValue, against type: VarlinkType, at path: String) throws(TypeMismatch) {
        switch (resolve(type), value) {
        case (.optional, .null), (.any, _), (.bool, .bool), (.int, .int), (.float, .int), (.float, .double),
            (.string, .string), (.object, .object):
            return
        case (.optional(let wrapped), _): try check(value, against: wrapped, at: path)
        case (_, .null): throw TypeMismatch(field: path, reason: "is missing")
        case (.enumeration(let cases), .string(let name)):
            guard cases.contains(name) else {
                throw TypeMismatch(field: path, reason: "must be one of \(cases.joined(separator: ", "))")
            }
        case (.structure(let fields), .object(let object)): try check(object, against: fields, at: path)
        case (.map(let element), .object(let object)):
            for (key, value) in object { try check(value, against: element, at: "\(path).\(key)") }
        case (.array(let element), .array(let values)):
            for (index, value) in values.enumerated() { try check(value, against: element, at: "\(path)[\(index)]") }
        default: throw TypeMismatch(field: path, reason: "must be \(describe(type))")
        }
    }

    private func describe(_ type: VarlinkType) -> String {
        switch resolve(type) {
        case .bool: "true or false"
        case .int: "a whole number that fits in 64 bits"
        case .float: "a number"
        case .string, .enumeration: "a text"
        case .array: "a list"
        case .object, .map, .structure: "an object"
        case .optional(let wrapped): describe(wrapped)
        case .any, .named: "a value"
        }
    }
}
