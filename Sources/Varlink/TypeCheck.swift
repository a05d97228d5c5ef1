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
        let message: [UInt8]
        do { message = Array(try MessageCoding.reply(value).dropLast()) } catch {
            throw TypeMismatch(field: "parameters", reason: "do not encode: \(error)")
        }
        try check(parametersOf: message, against: fields)
    }

    /// Checks the parameters of a message that has not been read yet.
    func check(parametersOf message: [UInt8], against fields: [VarlinkField]) throws(TypeMismatch) {
        // Nothing that is written here is nested deeper than what may be read.
        guard let document = try? JSONPart(message, depthLimit: VarlinkLimits().nestingDepth) else {
            throw TypeMismatch(field: "parameters", reason: "are no object")
        }
        try check(document["parameters"], against: fields)
    }

    /// Checks a message's parameters. What is not declared is not looked into.
    /// - Parameter parameters: nil and null count as an empty object.
    func check(_ parameters: JSONPart?, against fields: [VarlinkField]) throws(TypeMismatch) {
        guard let parameters, !parameters.isNull else { return try check([], fields, at: "") }
        try check(parameters, .structure(fields), at: "")
    }

    private func check(_ value: JSONPart, _ type: VarlinkType, at path: String) throws(TypeMismatch) {
        let type = resolve(type)
        let mismatch = { TypeMismatch(field: path.isEmpty ? "parameters" : path, reason: "must be \(describe(type))") }
        switch (type, value) {
        case (.any, _), (.named, _), (.optional, .null): break
        case (.optional(let wrapped), _): try check(value, wrapped, at: path)
        case (_, .null): throw TypeMismatch(field: path, reason: "is missing")
        case (.bool, .bool), (.string, .string), (.object, .object): break
        case (.int, .number(let number)): guard number.integer(Int64.self) != nil else { throw mismatch() }
        case (.float, .number(let number)): guard number.double != nil else { throw mismatch() }
        case (.enumeration(let cases), .string(let text)):
            guard cases.contains(text.value) else {
                throw TypeMismatch(field: path, reason: "must be one of \(cases.joined(separator: ", "))")
            }
        case (.structure(let fields), .object(let members)): try check(members, fields, at: path)
        case (.map(let element), .object(let members)):
            for member in members { try check(member.value, element, at: "\(path).\(member.name.value)") }
        case (.array(let element), .array(let values)):
            for (index, value) in values.enumerated() { try check(value, element, at: "\(path)[\(index)]") }
        default: throw mismatch()
        }
    }

    private func check(
        _ members: [(name: JSONText, value: JSONPart)], _ fields: [VarlinkField], at path: String
    ) throws(TypeMismatch) {
        let prefix = path.isEmpty ? "" : path + "."
        var values: [String: JSONPart] = [:]
        for member in members { values[member.name.value] = member.value }
        for field in fields {
            if let value = values.removeValue(forKey: field.name) {
                try check(value, field.type, at: prefix + field.name)
            } else if !field.type.isOptional {
                throw TypeMismatch(field: prefix + field.name, reason: "is missing")
            }
        }
        if let unknown = members.first(where: { values[$0.name.value] != nil }) {
            // A name may be as long as a message.
            throw TypeMismatch(field: prefix + unknown.name.value.prefix(64), reason: "is not known")
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
