/// Why bytes are no JSON that is read here.
enum JSONFlaw: Error, Hashable {
    case malformed(String)
    case nestedTooDeeply
}

/// A part of a JSON document (RFC 8259), read once: enough to classify a message and to check its types before its
/// parameters are decoded. Numbers and texts stay in the document's bytes until they are asked for.
enum JSONPart: Sendable {
    case null
    case bool(Bool)
    case number(JSONNumber)
    case string(JSONText)
    case array([JSONPart])
    case object([(name: JSONText, value: JSONPart)])

    /// Reads a document.
    /// - Parameter depthLimit: how many objects and arrays may be open at once; nothing recurses deeper.
    /// - Throws: also where an object has one name twice: who reads it next could take the other one.
    init(_ bytes: [UInt8], depthLimit: Int) throws(JSONFlaw) {
        var reader = JSONReader(bytes: bytes, depthLimit: depthLimit)
        self = try reader.document()
    }

    /// The value of an object's member; nil where there is none, or where this is not an object.
    subscript(name: StaticString) -> JSONPart? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name.isEqual(to: name) }?.value
    }

    var isNull: Bool { if case .null = self { true } else { false } }
    var isObject: Bool { if case .object = self { true } else { false } }
}

/// A text of a document, between its quotes.
struct JSONText: Sendable {
    let bytes: ArraySlice<UInt8>
    /// It has no escapes: the bytes are the text.
    let isPlain: Bool

    /// The text itself.
    var value: String {
        guard !isPlain else { return String(decoding: bytes, as: UTF8.self) }
        var units: [UInt16] = []
        var text = ""
        var rest = bytes
        func flush() {
            text += String(decoding: units, as: UTF16.self)
            units = []
        }
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\"), let escape = rest.popFirst() else {
                flush()
                let plain = rest.prefix { $0 != UInt8(ascii: "\\") }
                text += String(decoding: [byte] + plain, as: UTF8.self)
                rest = rest.dropFirst(plain.count)
                continue
            }
            switch escape {
            case UInt8(ascii: "n"): units.append(0x0A)
            case UInt8(ascii: "r"): units.append(0x0D)
            case UInt8(ascii: "t"): units.append(0x09)
            case UInt8(ascii: "b"): units.append(0x08)
            case UInt8(ascii: "f"): units.append(0x0C)
            case UInt8(ascii: "u"):
                units.append(UInt16(String(decoding: rest.prefix(4), as: UTF8.self), radix: 16) ?? 0xFFFD)
                rest = rest.dropFirst(4)
            default: units.append(UInt16(escape))
            }
        }
        flush()
        return text
    }

    func isEqual(to name: StaticString) -> Bool {
        guard isPlain else { return value == name.description }
        return name.withUTF8Buffer { bytes.elementsEqual($0) }
    }

    func isEqual(to name: String) -> Bool { isPlain ? bytes.elementsEqual(name.utf8) : value == name }

    func isEqual(to other: JSONText) -> Bool {
        isPlain && other.isPlain ? bytes == other.bytes : value == other.value
    }
}

/// A number of a document.
struct JSONNumber: Sendable {
    let bytes: ArraySlice<UInt8>
    /// It has neither fraction nor exponent.
    let isWhole: Bool

    /// Nil where it is not a whole number of that type, however it is written: 2.5e1 is one, and 66666666666666663.5 is none, though the
    /// nearest Double is.
    func integer<Value: FixedWidthInteger>(_ type: Value.Type = Value.self) -> Value? {
        let text = String(decoding: bytes, as: UTF8.self)
        return isWhole ? Value(text) : Self.digits(of: text).flatMap { Value($0) }
    }

    /// A number with a fraction or an exponent as whole digits, which are those of its value; nil where it has a fraction, or more
    /// digits than 128 bits have.
    private static func digits(of text: String) -> String? {
        let isNegative = text.first == "-"
        let parts = text.drop { $0 == "-" }.split(whereSeparator: { $0 == "e" || $0 == "E" })
        let sides = parts[0].split(separator: ".")
        let fraction = sides.count > 1 ? sides[1] : ""
        var digits = String(sides[0] + fraction).drop { $0 == "0" }
        guard !digits.isEmpty else { return "0" }
        // An exponent beyond Int is beyond every type, or leaves nothing but a fraction.
        guard let exponent = parts.count > 1 ? Int(parts[1]) : 0 else { return nil }
        var (scale, overflow) = exponent.subtractingReportingOverflow(fraction.count)
        while digits.last == "0", !overflow {
            digits.removeLast()
            (scale, overflow) = scale.addingReportingOverflow(1)
        }
        guard !overflow, scale >= 0, scale <= 39 - digits.count else { return nil }
        return (isNegative ? "-" : "") + digits + String(repeating: "0", count: scale)
    }

    /// Nil where it is beyond what a Double holds.
    var double: Double? { Double(String(decoding: bytes, as: UTF8.self)).flatMap { $0.isFinite ? $0 : nil } }
}
