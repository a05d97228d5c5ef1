/// Decodes values from a part of a document that was read and bounded before, so that no second reader sees a stranger's bytes,
/// which could take them for something else.
struct PartDecoder: Decoder {
    let part: JSONPart
    let path: DecodingPath

    init(_ part: JSONPart, at path: DecodingPath = .root) {
        self.part = part
        self.path = path
    }

    var codingPath: [any CodingKey] { path.keys }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard case .object(let members) = part else { throw mismatch([String: Any].self) }
        return KeyedDecodingContainer(PartMembers<Key>(members, at: path))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        guard case .array(let elements) = part else { throw mismatch([Any].self) }
        return PartElements(elements, at: path)
    }

    func singleValueContainer() -> any SingleValueDecodingContainer { self }

    /// - Throws: `valueNotFound` for null, `typeMismatch` for any other value of another type.
    private func mismatch(_ type: Any.Type) -> DecodingError {
        let context = DecodingError.Context(codingPath: codingPath, debugDescription: "not of type \(type)")
        return part.isNull ? .valueNotFound(type, context) : .typeMismatch(type, context)
    }

    private func whole<Value: FixedWidthInteger>(_ type: Value.Type) throws -> Value {
        guard case .number(let number) = part else { throw mismatch(type) }
        guard let value = number.integer(type) else { throw beyond(type) }
        return value
    }

    private func beyond(_ type: Any.Type) -> DecodingError {
        .dataCorrupted(.init(codingPath: codingPath, debugDescription: "a number that is not a valid \(type)"))
    }
}

extension PartDecoder: SingleValueDecodingContainer {
    func decodeNil() -> Bool { part.isNull }

    func decode(_ type: Bool.Type) throws -> Bool {
        guard case .bool(let flag) = part else { throw mismatch(type) }
        return flag
    }

    func decode(_ type: String.Type) throws -> String {
        guard case .string(let text) = part else { throw mismatch(type) }
        return text.value
    }

    func decode(_ type: Double.Type) throws -> Double {
        guard case .number(let number) = part else { throw mismatch(type) }
        guard let value = number.double else { throw beyond(type) }
        return value
    }

    func decode(_ type: Float.Type) throws -> Float {
        let value = Float(try decode(Double.self))
        guard value.isFinite else { throw beyond(type) }
        return value
    }

    func decode(_ type: Int.Type) throws -> Int { try whole(type) }
    func decode(_ type: Int8.Type) throws -> Int8 { try whole(type) }
    func decode(_ type: Int16.Type) throws -> Int16 { try whole(type) }
    func decode(_ type: Int32.Type) throws -> Int32 { try whole(type) }
    func decode(_ type: Int64.Type) throws -> Int64 { try whole(type) }
    func decode(_ type: UInt.Type) throws -> UInt { try whole(type) }
    func decode(_ type: UInt8.Type) throws -> UInt8 { try whole(type) }
    func decode(_ type: UInt16.Type) throws -> UInt16 { try whole(type) }
    func decode(_ type: UInt32.Type) throws -> UInt32 { try whole(type) }
    func decode(_ type: UInt64.Type) throws -> UInt64 { try whole(type) }
    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try Value(from: self) }
}

/// Where in a document something is, from the inside out.
indirect enum DecodingPath {
    case root
    case member(any CodingKey, of: DecodingPath)
    case element(Int, of: DecodingPath)

    var keys: [any CodingKey] {
        switch self {
        case .root: []
        case .member(let key, let parent): parent.keys + [key]
        case .element(let index, let parent): parent.keys + [PlainKey(index)]
        }
    }
}

/// A key that no type declares.
struct PlainKey: CodingKey {
    let stringValue: String
    let intValue: Int?

    init(_ index: Int) {
        stringValue = "\(index)"
        intValue = index
    }

    init(stringValue: String) {
        self.stringValue = stringValue
        intValue = nil
    }

    init(intValue: Int) { self.init(intValue) }
}
