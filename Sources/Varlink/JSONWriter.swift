/// Writes a value as a JSON document (RFC 8259), its members in the order in which its type encodes them.
///
/// What a type encodes goes into the document at once. Containers therefore have to be filled as calls nest: whoever asks for a
/// container inside of another one fills it before it goes on with the outer one, as all types do whose encoding the compiler makes.
/// The coding path is not kept; what needs it, a number that JSON does not have, is reported with its value.
struct JSONWriter: Encoder {
    private let document: JSONDocument
    /// How many containers are open around the value.
    private let depth: Int
    /// The document's length in front of it.
    private let start: Int

    fileprivate init(_ document: JSONDocument) {
        self.document = document
        depth = document.depth
        start = document.bytes.count
    }

    /// The document's bytes.
    /// - Throws: `EncodingError` for a number that is not finite; what the type throws.
    static func bytes(of value: some Encodable) throws -> [UInt8] {
        let document = JSONDocument()
        try write(value, to: document)
        return document.bytes
    }

    /// Appends one value, and closes what its type has opened for it. One that encodes nothing is an empty object.
    fileprivate static func write(_ value: some Encodable, to document: JSONDocument) throws {
        let writer = JSONWriter(document)
        try value.encode(to: writer)
        document.close(to: writer.depth)
        if document.bytes.count == writer.start { document.bytes += "{}".utf8 }
    }

    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    /// The container of this value. A type may ask for it again, and adds to it then.
    private func container(_ kind: JSONDocument.Kind) -> JSONDocument.Place {
        document.close(to: depth + 1)
        if document.depth == depth {
            precondition(document.bytes.count == start, "a value is encoded after its place")
            document.open(kind)
        }
        return document.innermost(kind)
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        KeyedEncodingContainer(WrittenMembers(document, container(.object)))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer { WrittenElements(document, container(.list)) }
    func singleValueContainer() -> any SingleValueEncodingContainer { self }
}

extension JSONWriter: SingleValueEncodingContainer {
    func encodeNil() { document.bytes += "null".utf8 }
    func encode(_ value: Bool) { document.append(value) }
    func encode(_ value: String) { document.append(value) }
    func encode(_ value: Double) throws { try document.append(value) }
    func encode(_ value: Float) throws { try document.append(Double(value)) }
    func encode(_ value: Int) { document.append(value) }
    func encode(_ value: Int8) { document.append(value) }
    func encode(_ value: Int16) { document.append(value) }
    func encode(_ value: Int32) { document.append(value) }
    func encode(_ value: Int64) { document.append(value) }
    func encode(_ value: UInt) { document.append(value) }
    func encode(_ value: UInt8) { document.append(value) }
    func encode(_ value: UInt16) { document.append(value) }
    func encode(_ value: UInt32) { document.append(value) }
    func encode(_ value: UInt64) { document.append(value) }
    func encode(_ value: some Encodable) throws { try JSONWriter.write(value, to: document) }
}

/// The members of an object that is being written.
private struct WrittenMembers<Key: CodingKey>: KeyedEncodingContainerProtocol {
    private let document: JSONDocument
    private let place: JSONDocument.Place

    init(_ document: JSONDocument, _ place: JSONDocument.Place) {
        self.document = document
        self.place = place
    }

    var codingPath: [any CodingKey] { [] }

    /// Begins a member; what is appended next is its value.
    private func member(_ key: some CodingKey) -> JSONDocument {
        document.next(in: place)
        document.append(key.stringValue)
        document.bytes.append(UInt8(ascii: ":"))
        return document
    }

    mutating func encodeNil(forKey key: Key) { member(key).bytes += "null".utf8 }
    mutating func encode(_ value: Bool, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: String, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: Double, forKey key: Key) throws { try member(key).append(value) }
    mutating func encode(_ value: Float, forKey key: Key) throws { try member(key).append(Double(value)) }
    mutating func encode(_ value: Int, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: Int8, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: Int16, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: Int32, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: Int64, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: UInt, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: UInt8, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: UInt16, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: UInt32, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: UInt64, forKey key: Key) { member(key).append(value) }
    mutating func encode(_ value: some Encodable, forKey key: Key) throws {
        try JSONWriter.write(value, to: member(key))
    }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) -> KeyedEncodingContainer<Nested> { JSONWriter(member(key)).container(keyedBy: type) }

    mutating func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
        JSONWriter(member(key)).unkeyedContainer()
    }

    mutating func superEncoder() -> any Encoder { JSONWriter(member(PlainKey(stringValue: "super"))) }
    mutating func superEncoder(forKey key: Key) -> any Encoder { JSONWriter(member(key)) }
}

/// The elements of a list that is being written.
private struct WrittenElements: UnkeyedEncodingContainer {
    private let document: JSONDocument
    private let place: JSONDocument.Place
    private(set) var count = 0

    init(_ document: JSONDocument, _ place: JSONDocument.Place) {
        self.document = document
        self.place = place
    }

    var codingPath: [any CodingKey] { [] }

    /// Begins an element; what is appended next is its value.
    private mutating func element() -> JSONDocument {
        count += 1
        document.next(in: place)
        return document
    }

    mutating func encodeNil() { element().bytes += "null".utf8 }
    mutating func encode(_ value: Bool) { element().append(value) }
    mutating func encode(_ value: String) { element().append(value) }
    mutating func encode(_ value: Double) throws { try element().append(value) }
    mutating func encode(_ value: Float) throws { try element().append(Double(value)) }
    mutating func encode(_ value: Int) { element().append(value) }
    mutating func encode(_ value: Int8) { element().append(value) }
    mutating func encode(_ value: Int16) { element().append(value) }
    mutating func encode(_ value: Int32) { element().append(value) }
    mutating func encode(_ value: Int64) { element().append(value) }
    mutating func encode(_ value: UInt) { element().append(value) }
    mutating func encode(_ value: UInt8) { element().append(value) }
    mutating func encode(_ value: UInt16) { element().append(value) }
    mutating func encode(_ value: UInt32) { element().append(value) }
    mutating func encode(_ value: UInt64) { element().append(value) }
    mutating func encode(_ value: some Encodable) throws { try JSONWriter.write(value, to: element()) }

    mutating func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
        JSONWriter(element()).container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
        JSONWriter(element()).unkeyedContainer()
    }

    mutating func superEncoder() -> any Encoder { JSONWriter(element()) }
}
