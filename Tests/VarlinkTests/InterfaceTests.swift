import Testing

@testable import Varlink

@Suite struct `Interface descriptions` {
    @Test func `every construct is read`() throws {
        let interface = try VarlinkInterface(
            parsing: """
                # comment
                interface io.example-1.store # behind
                type Kind (one, two)
                type Item (name: string, sizes: []int, tags: [string]?Kind, inner: (deep: ?bool, f: float), o: object)
                method Get(name: string)->(item: ?Item)
                method Nothing () -> ()
                error Gone
                error Bad (why: (x, y))
                """)
        #expect(interface.name == "io.example-1.store")
        #expect(interface.types["Kind"] == .enumeration(["one", "two"]))
        #expect(
            interface.types["Item"]
                == .structure([
                    VarlinkField("name", .string), VarlinkField("sizes", .array(.int)),
                    VarlinkField("tags", .map(.optional(.named("Kind")))),
                    VarlinkField(
                        "inner",
                        .structure([VarlinkField("deep", .optional(.bool)), VarlinkField("f", .float)])),
                    VarlinkField("o", .object),
                ]))
        #expect(interface.methods["Get"]?.reply == [VarlinkField("item", .optional(.named("Item")))])
        #expect(interface.methods["Nothing"] == .init(parameters: [], reply: []))
        #expect(interface.errors["Gone"] == [])
        #expect(interface.errors["Bad"] == [VarlinkField("why", .enumeration(["x", "y"]))])
        #expect(interface.resolve(.named("Kind")) == .enumeration(["one", "two"]))
    }

    @Test(
        arguments: [
            ("", 1), ("interface Store", 1), ("interface io.example.", 1), ("interface io.e.x\ntype a (x: int)", 2),
            ("interface io.e.x\n\nmethod A(x: int)", 3), ("interface io.e.x\nmethod A() -> (x)", 2),
            ("interface io.e.x\ntype A (x: int)\nmethod A() -> ()", 3), ("interface io.e.x\ntype A (x: B)", 2),
            ("interface io.e.x\ntype A (x: ??int)", 2), ("interface io.e.x\ntype A (x: int, x: int)", 2),
            ("interface io.e.x\ntype A (x: int, y)", 2), ("interface io.e.x\ntype A (x, y: int)", 2),
            ("interface io.e.x\ntype A (_x: int)", 2), ("interface io.e.x\nthing A ()", 2),
            ("interface io.e.x\ntype A (x: [int]int)", 2), ("interface io.e.x\ntype A (x: int", 2),
            ("interface io.e.x\ntype A \(String(repeating: "(x: ", count: 40))", 2),
            // A dash that begins no arrow begins no word either, and must not stop the reader for ever.
            ("interface io.e.x\n-", 2), ("interface io.e.x\n--", 2), ("interface io.e.x\ntype A -(x: int)", 2),
            ("interface io.e.x\nmethod A() - > ()", 2), ("interface io.e.x\nmethod A() --> ()", 2),
            // Reading a type recurses: lists of lists must not use up the stack.
            ("interface io.e.x\ntype A (x: \(String(repeating: "[]", count: 20_000))int)", 2),
            ("interface io.e.x\ntype A (x: \(String(repeating: "?[string]", count: 10_000))int)", 2),
        ] as [(String, Int)])
    func `what is wrong is told with its line`(_ text: String, _ line: Int) {
        let error = #expect(throws: InterfaceError.self) { try VarlinkInterface(parsing: text) }
        #expect(error?.line == line, "\(String(describing: error))")
    }

    @Test(
        arguments: [
            (#"{"left":"a"}"#, nil), (#"{"left":"a","right":null}"#, nil), (#"{"left":"a","right":3}"#, nil),
            (#"{}"#, "left"), (#"{"left":null}"#, "left"), (#"{"left":7}"#, "left"),
            (#"{"left":"a","right":1.5}"#, "right"),
            (#"{"left":"a","right":true}"#, "right"), (#"{"left":"a","rigth":3}"#, "rigth"),
            (#"{"left":"a","right":9223372036854775808}"#, "right"),
        ] as [(String, String?)])
    func `values are checked against their declaration`(_ text: String, _ field: String?) throws {
        let interface = try VarlinkInterface(parsing: echoInterface)
        guard case .structure(let fields)? = interface.types["Pair"] else { return }
        let message = Array(#"{"parameters":\#(text)}"#.utf8)
        var found: String?
        do throws(TypeMismatch) {
            try interface.check(parametersOf: message, against: fields)
        } catch {
            found = error.field
        }
        #expect(found == field)
    }

    @Test(
        arguments: [
            (#"{"list":[1,2],"map":{"a":[true]},"any":{"x":[]},"object":{},"inner":{"kind":"b"},"f":2}"#, nil),
            (#"{"list":[1,"2"]}"#, "list[1]"), (#"{"list":{}}"#, "list"), (#"{"list":[],"map":{"a":[1]}}"#, "map.a[0]"),
            (#"{"list":[],"map":[]}"#, "map"), (#"{"list":[],"object":[]}"#, "object"),
            (#"{"list":[],"inner":{"kind":"c"}}"#, "inner.kind"), (#"{"list":[],"inner":{}}"#, "inner.kind"),
            (#"{"list":[],"inner":{"kind":"a","more":1}}"#, "inner.more"), (#"{"list":[null]}"#, "list[0]"),
            (#"{"list":[],"f":"2"}"#, "f"), ("[]", "parameters"), ("7", "parameters"), ("null", "list"),
        ] as [(String, String?)])
    func `nested values are checked too`(_ text: String, _ field: String?) throws {
        let interface = try VarlinkInterface(
            parsing: """
                interface io.example.x
                type Inner (kind: (a, b))
                type All (list: []int, map: ?[string][]bool, any: ?any, object: ?object, inner: ?Inner, f: ?float)
                """)
        guard case .structure(let fields)? = interface.types["All"] else { return }
        var found: String?
        do throws(TypeMismatch) {
            try interface.check(parametersOf: Array(#"{"parameters":\#(text)}"#.utf8), against: fields)
        } catch {
            found = error.field
        }
        #expect(found == field)
    }
}
