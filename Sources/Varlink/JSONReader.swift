/// Reads one JSON document from its first byte to its last.
struct JSONReader {
    private let bytes: [UInt8]
    private let depthLimit: Int
    private var position = 0
    private var depth = 0

    init(bytes: [UInt8], depthLimit: Int) {
        self.bytes = bytes
        self.depthLimit = depthLimit
    }

    mutating func document() throws(JSONFlaw) -> JSONPart {
        let part = try value()
        skipBlanks()
        guard position == bytes.count else { throw flaw("trailing data") }
        return part
    }

    // MARK: Values

    private mutating func value() throws(JSONFlaw) -> JSONPart {
        skipBlanks()
        guard let byte = peek else { throw flaw("an end where a value should be") }
        switch byte {
        case UInt8(ascii: "{"): return try object()
        case UInt8(ascii: "["): return try array()
        case UInt8(ascii: "\""): return .string(try text())
        case UInt8(ascii: "t"):
            try word("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try word("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try word("null")
            return .null
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
        default: throw flaw("no value")
        }
    }

    private mutating func object() throws(JSONFlaw) -> JSONPart {
        try open()
        defer { depth -= 1 }
        var members: [(name: JSONText, value: JSONPart)] = []
        var names = Set<String>()
        skipBlanks()
        if take(UInt8(ascii: "}")) { return .object([]) }
        repeat {
            skipBlanks()
            guard peek == UInt8(ascii: "\"") else { throw flaw("no name of a member") }
            let name = try text()
            // A few names are compared with each other, many are looked up.
            let isKnown =
                members.count < 16
                ? members.contains { $0.name.isEqual(to: name) } : !names.insert(name.value).inserted
            guard !isKnown else { throw flaw("a name that comes twice") }
            skipBlanks()
            guard take(UInt8(ascii: ":")) else { throw flaw("':' was expected") }
            members.append((name, try value()))
            if members.count == 16 { names = Set(members.map(\.name.value)) }
            skipBlanks()
        } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "}")) else { throw flaw("an object without its end") }
        return .object(members)
    }

    private mutating func array() throws(JSONFlaw) -> JSONPart {
        try open()
        defer { depth -= 1 }
        var elements: [JSONPart] = []
        skipBlanks()
        if take(UInt8(ascii: "]")) { return .array([]) }
        repeat {
            elements.append(try value())
            skipBlanks()
        } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "]")) else { throw flaw("a list without its end") }
        return .array(elements)
    }

    /// Enters an object or an array.
    private mutating func open() throws(JSONFlaw) {
        depth += 1
        guard depth <= depthLimit else { throw .nestedTooDeeply }
        position += 1
    }

    private mutating func word(_ word: StaticString) throws(JSONFlaw) {
        let end = position + word.utf8CodeUnitCount
        let isThere = word.withUTF8Buffer { end <= bytes.count && bytes[position..<end].elementsEqual($0) }
        guard isThere else { throw flaw("no value") }
        position = end
    }

    /// A minus sign, digits without leading zeroes, and maybe a fraction and an exponent.
    private mutating func number() throws(JSONFlaw) -> JSONNumber {
        let start = position
        _ = take(UInt8(ascii: "-"))
        if !take(UInt8(ascii: "0")) { try digits() }
        let whole = position
        if take(UInt8(ascii: ".")) { try digits() }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
        return JSONNumber(bytes: bytes[start..<position], isWhole: position == whole)
    }

    /// One or more.
    private mutating func digits() throws(JSONFlaw) {
        let start = position
        while let byte = peek, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        guard position > start else { throw flaw("a number without a digit") }
    }

    // MARK: Texts

    private mutating func text() throws(JSONFlaw) -> JSONText {
        position += 1
        let start = position
        var (isPlain, isASCII) = (true, true)
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "\""):
                let slice = bytes[start..<position]
                guard isASCII || String(validating: slice, as: UTF8.self) != nil else {
                    throw flaw("a string that is not UTF-8")
                }
                position += 1
                return JSONText(bytes: slice, isPlain: isPlain)
            case UInt8(ascii: "\\"):
                isPlain = false
                position += 1
                try escape()
            case 0..<0x20: throw flaw("a control character in a text")
            default:
                if byte >= 0x80 { isASCII = false }
                position += 1
            }
        }
        throw flaw("a text without its end")
    }

    /// What follows a backslash.
    private mutating func escape() throws(JSONFlaw) {
        guard let byte = peek else { throw flaw("a text without its end") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            return
        case UInt8(ascii: "u"): break
        default: throw flaw("an unknown escape")
        }
        let unit = try hexadecimal()
        switch unit {
        case 0xD800..<0xDC00:
            // The other half has to follow.
            guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")), (0xDC00..<0xE000).contains(try hexadecimal())
            else { throw flaw("half a character") }
        case 0xDC00..<0xE000: throw flaw("half a character")
        default: break
        }
    }

    private mutating func hexadecimal() throws(JSONFlaw) -> UInt16 {
        var unit: UInt16 = 0
        for _ in 0..<4 {
            guard let byte = peek, let digit = Character(UnicodeScalar(byte)).hexDigitValue, byte < 0x80 else {
                throw flaw("an escape without four digits")
            }
            unit = unit << 4 | UInt16(digit)
            position += 1
        }
        return unit
    }

    // MARK: Bytes

    private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard peek == byte else { return false }
        position += 1
        return true
    }

    private mutating func skipBlanks() {
        while let byte = peek, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    private func flaw(_ what: String) -> JSONFlaw { .malformed("\(what) at byte \(position)") }
}
