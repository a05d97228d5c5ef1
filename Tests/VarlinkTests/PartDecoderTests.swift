import FoundationEssentials
import TestSupport
import Testing

@testable import Varlink

/// Types decode from a document that was read here as they do with another reader, errors and their places included.
@Suite struct `Decoding what was read` {
    private static func ours<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        try Value(from: PartDecoder(JSONPart(Array(text.utf8), depthLimit: 32)))
    }

    private static func foreign<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(text.utf8))
    }

    private static let leaf = #"{"side":"private","gpa":18446744073709551615,"small":-128,"flags":[true,false]}"#

    @Test(arguments: [
        #"{"name":"a\u00e4","ratio":1e3,"leaves":[]}"#,
        #"{"name":"","ratio":-0.5,"leaves":[\#(leaf),\#(leaf)],"table":{"x":\#(leaf),"":\#(leaf)},"rest":[1,{"y":null}]}"#,
        #"{"ratio":7,"name":"n","leaves":[],"grid":[[1,null,3.0],[]],"table":null,"unknown":{"deep":[[]]}}"#,
    ])
    func `a value is what another reader makes of it`(_ text: String) throws {
        #expect(try Self.ours(SampleTree.self, text) == Self.foreign(SampleTree.self, text))
    }

    @Test(arguments: [
        ("name", #"{"ratio":1,"leaves":[]}"#), ("name", #"{"name":null,"ratio":1,"leaves":[]}"#),
        ("name", #"{"name":1,"ratio":1,"leaves":[]}"#), ("ratio", #"{"name":"","ratio":"1","leaves":[]}"#),
        ("ratio", #"{"name":"","ratio":1e999,"leaves":[]}"#), ("leaves", #"{"name":"","ratio":1,"leaves":{}}"#),
        ("parameters", "[]"), ("parameters", "null"), ("parameters", "7"),
        ("leaves[1].side", #"{"name":"","ratio":1,"leaves":[\#(leaf),{"side":"neither","gpa":1,"flags":[]}]}"#),
        ("leaves[0].gpa", #"{"name":"","ratio":1,"leaves":[{"side":"shared","gpa":-1,"flags":[]}]}"#),
        ("leaves[0].gpa", #"{"name":"","ratio":1,"leaves":[{"side":"shared","gpa":1.5,"flags":[]}]}"#),
        ("leaves[0].small", #"{"name":"","ratio":1,"leaves":[{"side":"shared","gpa":1,"small":128,"flags":[]}]}"#),
        ("leaves[0].flags[1]", #"{"name":"","ratio":1,"leaves":[{"side":"shared","gpa":1,"flags":[true,0]}]}"#),
        ("leaves[0].flags[1]", #"{"name":"","ratio":1,"leaves":[{"side":"shared","gpa":1,"flags":[true,null]}]}"#),
        ("table.x.gpa", #"{"name":"","ratio":1,"leaves":[],"table":{"x":{"side":"shared","gpa":true,"flags":[]}}}"#),
    ])
    func `what is of another type is told with its place, and refused by another reader, too`(
        place: String, text: String
    ) throws {
        let error = try #require(throws: DecodingError.self) { try Self.ours(SampleTree.self, text) }
        #expect(MessageCoding.fieldName(error) == place)
        #expect(throws: DecodingError.self) { try Self.foreign(SampleTree.self, text) }
    }

    @Test func `many members are found by name, also where two names are the same to Unicode`() throws {
        // The two among the first few, which are compared byte by byte.
        let members = ["\"\u{e9}\":-1", "\"e\u{301}\":-2"] + (0..<100).map { #""key\#($0)":\#($0)"# }
        let text = "{" + members.joined(separator: ",") + "}"
        let numbers = try Self.ours([String: Int].self, text)
        #expect(numbers.count == 101)
        for number in 0..<100 { #expect(numbers["key\(number)"] == number) }
    }

    @Test func `random documents are read alike`() throws {
        var random = SeededRandom(seed: 0x7d5)
        func document(_ depth: Int) -> String {
            switch Int.random(in: 0..<(depth > 4 ? 5 : 7), using: &random) {
            case 0: return "null"
            case 1: return Bool.random(using: &random) ? "true" : "false"
            case 2: return "\(Int64.random(in: .min ... .max, using: &random))"
            case 3: return "\(Double.random(in: -1e6...1e6, using: &random))"
            case 4: return #""\#(Int.random(in: 0..<1000, using: &random))\n\u00e4ö""#
            case 5:
                return "["
                    + (0..<Int.random(in: 0..<6, using: &random)).map { _ in document(depth + 1) }.joined(
                        separator: ",") + "]"
            default:
                return "{"
                    + (0..<Int.random(in: 0..<24, using: &random)).map { #""k\#($0)":"# + document(depth + 1) }
                    .joined(separator: ",") + "}"
            }
        }
        for _ in 0..<500 {
            let text = document(0)
            #expect(try Self.ours(JSONValue.self, text) == Self.foreign(JSONValue.self, text), "\(text)")
        }
    }
}
