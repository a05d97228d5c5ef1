import FoundationEssentials
import TestSupport
import Testing

@testable import Varlink

@Suite struct `Writing JSON` {
    private static func text(_ value: some Encodable) throws -> String {
        String(decoding: try JSONWriter.bytes(of: value), as: UTF8.self)
    }

    /// What another reader makes of what was written.
    private static func again<Value: Codable>(_ value: Value) throws -> Value {
        try JSONDecoder().decode(Value.self, from: Data(JSONWriter.bytes(of: value)))
    }

    @Test func `members stand in their type's order, and what is nil is left out`() throws {
        let leaf = SampleTree.Leaf(side: .shared, gpa: .max, flags: [true, false])
        #expect(try Self.text(leaf) == #"{"side":"shared","gpa":18446744073709551615,"flags":[true,false]}"#)
        #expect(try Self.text([SampleTree.Leaf]()) == "[]")
        #expect(try Self.text(NoParameters()) == "{}")
        #expect(try Self.text([[1, nil, -3], []]) == "[[1,null,-3],[]]")
        #expect(try Self.text("/") == #""/""#)
    }

    @Test func `texts come back as they were, whatever is in them`() throws {
        let every = String(String.UnicodeScalarView((0..<0x180).compactMap(UnicodeScalar.init)))
        for text in [
            every, "", "\"", "\\", "\u{0}", "ä€😀", "e\u{301}", "\u{2028}", "a\r\nb",
            String(repeating: "\t", count: 300),
        ] {
            #expect(try Self.again([text]) == [text])
            #expect(try Self.again([text: 1]) == [text: 1])
            #expect(try String(from: PartDecoder(JSONPart(JSONWriter.bytes(of: text), depthLimit: 1))) == text)
        }
        #expect(try Self.text("\u{1}\u{1f}\n\u{7f}") == "\"\\u0001\\u001f\\n\u{7f}\"")
    }

    @Test func `numbers come back as they were`() throws {
        #expect(try Self.text([Int64.min, .max, 0, -1]) == "[-9223372036854775808,9223372036854775807,0,-1]")
        #expect(try Self.text([Int8.min]) == "[-128]")
        let doubles = [
            0, -0.0, 0.1, 1e300, .leastNonzeroMagnitude, .greatestFiniteMagnitude, -1.5, 1e15, 1e16, 1e17, 123456789.0,
        ]
        #expect(try Self.again(doubles) == doubles)
        #expect(try Self.text([1.0, 2.5]) == "[1,2.5]")
    }

    @Test(arguments: [Double.nan, .infinity, -.infinity])
    func `a number that JSON does not have is refused`(number: Double) {
        #expect(throws: EncodingError.self) { try JSONWriter.bytes(of: [number]) }
        #expect(throws: EncodingError.self) { try JSONWriter.bytes(of: ["x": Float(number)]) }
    }

    /// Every way to ask for a container.
    private struct Containers: Encodable {
        enum Key: String, CodingKey { case first, nested, list, parent, last, added }

        func encode(to encoder: any Encoder) throws {
            var members = encoder.container(keyedBy: Key.self)
            try members.encode(1, forKey: .first)
            var nested = members.nestedContainer(keyedBy: Key.self, forKey: .nested)
            try nested.encodeNil(forKey: .first)
            var list = members.nestedUnkeyedContainer(forKey: .list)
            try list.encode("x")
            var inner = list.nestedUnkeyedContainer()
            try inner.encode(2)
            _ = list.nestedContainer(keyedBy: Key.self)
            try [3].encode(to: list.superEncoder())
            #expect(list.count == 4)
            try "p".encode(to: members.superEncoder(forKey: .parent))
            try members.encode(NoParameters(), forKey: .last)
            // As a type does that adds to what another one encodes.
            var again = encoder.container(keyedBy: Key.self)
            try again.encode(true, forKey: .added)
        }
    }

    @Test func `containers are closed where the outer one goes on`() throws {
        let text = #"{"first":1,"nested":{"first":null},"list":["x",[2],{},[3]],"parent":"p","last":{},"added":true}"#
        #expect(try Self.text(Containers()) == text)
        #expect(try Self.text([Containers(), Containers()]) == "[\(text),\(text)]")
    }

    @Test func `what writes to a container that was closed is stopped`() async {
        struct Late: Encodable {
            enum Key: String, CodingKey { case a, b }
            func encode(to encoder: any Encoder) throws {
                var members = encoder.container(keyedBy: Key.self)
                var nested = members.nestedContainer(keyedBy: Key.self, forKey: .a)
                try members.encode(1, forKey: .b)
                try nested.encode(2, forKey: .a)
            }
        }
        await #expect(processExitsWith: .failure) { _ = try JSONWriter.bytes(of: Late()) }
    }

    @Test func `random values come back as they were, with either reader`() throws {
        var random = SeededRandom(seed: 0x115)
        func leaf() -> SampleTree.Leaf {
            SampleTree.Leaf(
                side: Bool.random(using: &random) ? .private : .shared,
                gpa: UInt64.random(in: 0 ... .max, using: &random),
                small: Bool.random(using: &random) ? Int8.random(in: -128...127, using: &random) : nil,
                flags: (0..<Int.random(in: 0..<4, using: &random)).map { _ in Bool.random(using: &random) })
        }
        for _ in 0..<200 {
            let tree = SampleTree(
                name: String(
                    String.UnicodeScalarView(
                        (0..<8).map { _ in UnicodeScalar(UInt8.random(in: 0...255, using: &random)) })),
                ratio: Double.random(in: -1e6...1e6, using: &random),
                leaves: (0..<Int.random(in: 0..<4, using: &random)).map { _ in leaf() },
                table: Dictionary((0..<3).map { ("\($0)\"", leaf()) }) { $1 }, grid: [[1, nil], []],
                rest: .array([.null, .object(["x": .double(0.5)])]))
            let bytes = try JSONWriter.bytes(of: tree)
            #expect(try JSONDecoder().decode(SampleTree.self, from: Data(bytes)) == tree)
            #expect(try SampleTree(from: PartDecoder(JSONPart(bytes, depthLimit: 8))) == tree)
        }
    }
}
