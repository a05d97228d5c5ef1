import FoundationEssentials
import Testing

@testable import Varlink

@Suite struct `Reading JSON` {
    private static func read(_ text: String) -> JSONPart? { read(Array(text.utf8)) }
    private static func read(_ bytes: [UInt8]) -> JSONPart? { try? JSONPart(bytes, depthLimit: 32) }

    /// A part as the value that another reader makes of it.
    private static func value(_ part: JSONPart) -> JSONValue? {
        switch part {
        case .null: return .null
        case .bool(let flag): return .bool(flag)
        case .number(let number):
            if let whole = number.integer(Int64.self) { return .int(whole) }
            return number.double.map { number in Int64(exactly: number).map { .int($0) } ?? .double(number) }
        case .string(let text): return .string(text.value)
        case .array(let parts):
            let values = parts.map(value)
            return values.contains(nil) ? nil : .array(values.compactMap(\.self))
        case .object(let members):
            var object: [String: JSONValue] = [:]
            for member in members { object[member.name.value] = value(member.value) }
            return object.count == members.count ? .object(object) : nil
        }
    }

    private static func foreign(_ bytes: [UInt8]) -> JSONValue? {
        try? JSONDecoder().decode(JSONValue.self, from: Data(bytes))
    }

    @Test(arguments: [
        "{}", "[]", " { } ", "[1, 2 ,3]", "\t\r\n[ ]", #"{"a":{"b":[null,true,false]}}"#, "0", "-0", "-1", "10", "1.5",
        "-0.25", "1e3", "1E+3", "25e-2", "9223372036854775807", "-9223372036854775808",
        "1333333333333333333.33", "1e30", #""""#, #""a\"b\\c\/d""#,
        #""\b\f\n\r\t""#, #""\u00e4\u20AC\ud83d\ude00""#, #""ä€😀""#, #""x\ud83d\ude00y""#, #"{"\u0061":1}"#,
        #"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":1,"k":2,"l":3,"m":4,"n":5,"o":6,"p":7,"q":8,"r":9}"#,
    ])
    func `a document is what another reader makes of it`(_ text: String) throws {
        let part = try #require(Self.read(text))
        #expect(Self.value(part) == Self.foreign(Array(text.utf8)))
    }

    @Test(arguments: [
        "0.5", "-0.0", "1.0", "3333333333e3", "1333333333333333333.33", "9223372036854775807.0", "9223372036854775808",
        "-9223372036854775808.5", "1e300", "5e-324", "9007199254740993.0", "0.1",
    ])
    func `a number that was read is written so that it is read the same again`(_ text: String) throws {
        let value = try #require(Self.foreign(Array("[\(text)]".utf8)))
        let written = try JSONEncoder().encode(value)
        #expect(Self.foreign(Array(written)) == value, "\(String(decoding: written, as: UTF8.self))")
    }

    @Test(arguments: [
        ("1.0", 1), ("-2.50e1", -25), ("1E3", 1000), ("100e-2", 1), ("0.0", 0), ("-0e-99999999999999999999", 0),
        ("9223372036854775807.0", .max), ("922337203685477580700e-2", .max), ("9.223372036854775807e+18", .max),
        ("-9223372036854775808.000", .min), ("9007199254740993.0", 9_007_199_254_740_993),
    ])
    func `a whole number is exact, however it is written`(text: String, value: Int64) throws {
        guard case .number(let number)? = Self.read(text) else { throw JSONFlaw.malformed(text) }
        #expect(number.integer(Int64.self) == value)
    }

    @Test(arguments: [
        "0.5", "66666666666666663.5", "-9223372036854775808.5", "1e-1", "101e-2", "9223372036854775808.0", "1e19",
        "1e999",
        "1e99999999999999999999", "1e-99999999999999999999", "1.5e-9223372036854775808", "1e9223372036854775807",
        "10e9223372036854775807",
    ])
    func `a number with a fraction, or beyond 64 bits, is no whole number`(_ text: String) throws {
        guard case .number(let number)? = Self.read(text) else { throw JSONFlaw.malformed(text) }
        #expect(number.integer(Int64.self) == nil)
        #expect(number.integer(UInt8.self) == nil)
    }

    @Test(arguments: [
        "", " ", "nul", "truE", "+1", "01", "-", "1.", ".5", "1e", "1e+", "--1", "0x1", "NaN", "Infinity", "[1,]",
        "[,1]",
        "[1 2]", "{a:1}", "{'a':1}", #"{"a"}"#, #"{"a":}"#, #"{"a":1,}"#, #"{"a":1 "b":2}"#, "[", "{", "]", #"{"a":1]"#,
        #"""#, #""\"#, #""\x""#, #""\u12""#, #""\u12G4""#, #""\ud83d""#, #""\ude00""#, #""\ud83dx""#, #""\ud83d\n""#,
        "\"\t\"", "\"\n\"", "1 2", "{} {}", "{}x", "\u{FEFF}{}",
    ])
    func `what is no JSON is refused`(_ text: String) {
        #expect(Self.read(text) == nil)
    }

    @Test func `what is no UTF-8 is refused, in names, too`() {
        for bytes in [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82]] as [[UInt8]] {
            #expect(Self.read([0x22] + bytes + [0x22]) == nil)
            #expect(Self.read(Array("{\"".utf8) + bytes + Array("\":1}".utf8)) == nil)
        }
    }

    @Test func `a name that comes twice is refused, however it is written and however many there are`() {
        #expect(Self.read(#"{"a":1,"a":1}"#) == nil)
        #expect(Self.read(#"{"a":1,"\u0061":1}"#) == nil)
        #expect(Self.read(#"{"a":{"a":1},"b":{"a":1}}"#) != nil)
        let names = (0..<100).map { #""n\#($0)":0"# }
        #expect(Self.read("{" + names.joined(separator: ",") + "}") != nil)
        for twice in [3, 15, 16, 17, 99] {
            #expect(Self.read("{" + (names + [names[twice]]).joined(separator: ",") + "}") == nil, "\(twice)")
        }
    }

    @Test func `nesting counts outside of texts, up to the limit`() {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(Self.read(nested(32)) != nil)
        #expect(throws: JSONFlaw.nestedTooDeeply) { try JSONPart(Array(nested(33).utf8), depthLimit: 32) }
        #expect(Self.read(#"{"a":"\#(String(repeating: "[", count: 100))"}"#) != nil)
        // One behind the other is not one in the other.
        #expect(Self.read("[" + [String](repeating: "[[]]", count: 100).joined(separator: ",") + "]") != nil)
    }

    @Test func `no single byte that is changed or lost lets through what another reader refuses`() {
        let text = #"{"method":"a.B","parameters":{"gpa":12,"f":-1.5e3,"t":"ä\n\u20ac","l":[true,null]},"more":false}"#
        let original = Array(text.utf8)
        func check(_ bytes: [UInt8], _ what: String) {
            guard let part = Self.read(bytes) else { return }
            // Numbers beyond 64 bits and doubles are JSON, but no value of ours.
            guard let value = Self.value(part) else { return }
            #expect(Self.foreign(bytes) == value, "\(what): \(String(decoding: bytes, as: UTF8.self))")
        }
        for index in original.indices {
            var shorter = original
            shorter.remove(at: index)
            check(shorter, "without byte \(index)")
            for byte in [0x00, 0x20, 0x22, 0x2C, 0x30, 0x39, 0x5B, 0x5C, 0x5D, 0x65, 0x7B, 0x7D, 0x80, 0xC3, 0xFF] {
                var changed = original
                changed[index] = UInt8(byte)
                check(changed, "byte \(index) is \(byte)")
            }
        }
    }
}
