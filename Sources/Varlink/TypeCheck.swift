internal import FoundationEssentials

/// A value that is not of the type that an interface declares.
public struct TypeMismatch: Error, Hashable, Sendable, CustomStringConvertible {
    /// Where in the value, such as `runs[3].gpa`.
    public var field: String
    public var reason: String

    public var description: String { "“\(field)” \(reason)" }
}

extension VarlinkInterface {
    /// Checks what a value encodes as against declared fields: all that are not optional are there, none is unknown, and
    /// each is of its type. Numbers with a fraction are no `int`.
    public func check(_ value: some Encodable, against fields: [VarlinkField]) throws(TypeMismatch) {
        do {
            try check(parametersOf: Array(MessageCoding.reply(value).dropLast()), against: fields)
        } catch let mismatch as TypeMismatch {
            throw mismatch
        } catch {
            throw TypeMismatch(field: "parameters", reason: "do not encode: \(error)")
        }
    }

    /// Checks a message's parameters. What is not declared is not looked into, so that a message cannot make this
    /// expensive.
    func check(parametersOf message: [UInt8], against fields: [VarlinkField]) throws(TypeMismatch) {
        let decoder = JSONDecoder()
        decoder.userInfo[CheckedMessage.key] = CheckedMessage.Task(interface: self, fields: fields)
        do {
            _ = try decoder.decode(CheckedMessage.self, from: Data(message))
        } catch let mismatch as TypeMismatch {
            throw mismatch
        } catch {
            throw TypeMismatch(field: "parameters", reason: "are no object")
        }
    }
}

/// A message that decodes only if its parameters are as declared.
private struct CheckedMessage: Decodable {
    static let key = CodingUserInfoKey(rawValue: "varlink.check")!

    struct Task: Sendable {
        var interface: VarlinkInterface
        var fields: [VarlinkField]
    }

    init(from decoder: any Decoder) throws {
        guard let task = decoder.userInfo[Self.key] as? Task else { preconditionFailure("no type to check against") }
        let message = try decoder.container(keyedBy: Name.self)
        let parameters = Name(stringValue: "parameters")
        if message.contains(parameters), try !message.decodeNil(forKey: parameters) {
            try task.interface.check(message.superDecoder(forKey: parameters), .structure(task.fields), at: "")
        } else if let field = task.fields.first(where: { !$0.type.isOptional }) {
            throw TypeMismatch(field: field.name, reason: "is missing")
        }
    }
}

/// A key of an object that is not known beforehand.
private struct Name: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { return nil }
}

extension VarlinkInterface {
    fileprivate func check(_ decoder: any Decoder, _ type: VarlinkType, at path: String) throws {
        let type = resolve(type)
        func mismatch() -> TypeMismatch {
            TypeMismatch(field: path.isEmpty ? "parameters" : path, reason: "must be \(describe(type))")
        }
        func expect<Value: Decodable>(_: Value.Type) throws -> Value {
            guard let value = try? decoder.singleValueContainer().decode(Value.self) else { throw mismatch() }
            return value
        }
        switch type {
        case .any, .named: return
        case .optional(let wrapped):
            if try !decoder.singleValueContainer().decodeNil() { try check(decoder, wrapped, at: path) }
            return
        default:
            guard try !decoder.singleValueContainer().decodeNil() else {
                throw TypeMismatch(field: path, reason: "is missing")
            }
        }
        switch type {
        case .any, .named, .optional: break
        case .bool: _ = try expect(Bool.self)
        case .int: _ = try expect(Int64.self)
        case .float: _ = try expect(Double.self)
        case .string: _ = try expect(String.self)
        case .enumeration(let cases):
            guard cases.contains(try expect(String.self)) else {
                throw TypeMismatch(field: path, reason: "must be one of \(cases.joined(separator: ", "))")
            }
        case .object:
            guard (try? decoder.container(keyedBy: Name.self)) != nil else { throw mismatch() }
        case .structure(let fields):
            guard let object = try? decoder.container(keyedBy: Name.self) else { throw mismatch() }
            try check(object, fields, at: path)
        case .map(let element):
            guard let object = try? decoder.container(keyedBy: Name.self) else { throw mismatch() }
            for key in object.allKeys {
                try check(object.superDecoder(forKey: key), element, at: "\(path).\(key.stringValue)")
            }
        case .array(let element):
            guard var list = try? decoder.unkeyedContainer() else { throw mismatch() }
            while !list.isAtEnd {
                let index = list.currentIndex
                try check(list.superDecoder(), element, at: "\(path)[\(index)]")
            }
        }
    }

    private func check(
        _ object: KeyedDecodingContainer<Name>, _ fields: [VarlinkField], at path: String
    ) throws {
        let prefix = path.isEmpty ? "" : path + "."
        for field in fields {
            let key = Name(stringValue: field.name)
            if object.contains(key) {
                try check(object.superDecoder(forKey: key), field.type, at: prefix + field.name)
            } else if !field.type.isOptional {
                throw TypeMismatch(field: prefix + field.name, reason: "is missing")
            }
        }
        let known = Set(fields.map(\.name))
        if let unknown = object.allKeys.first(where: { !known.contains($0.stringValue) }) {
            // A name may be as long as a message.
            throw TypeMismatch(field: prefix + unknown.stringValue.prefix(64), reason: "is not known")
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

extension VarlinkType {
    var isOptional: Bool { if case .optional = self { true } else { false } }
}
