import InterfaceGenerator
import Testing
import Varlink

private func types(_ text: String, extending base: String? = nil) throws -> String {
    let bases = try base.map { [try VarlinkInterface(parsing: $0)] } ?? []
    return try InterfaceGenerator(try VarlinkInterface(parsing: text), extending: bases).types()
}

@Suite struct `Swift from an interface` {
    @Test func `names, units and documentation come from the file`() throws {
        let swift = try types(
            """
            # @field *_bytes UInt64 0...2^52
            # @field key_id UInt16
            interface io.example.Store

            # a thing in store
            # @swift StoredItem
            type Item (
              # how large it is
              size_bytes: int,
              key_id: ?int
            )

            # Finds an item.
            # @streams
            method Find(name: string) -> (item: ?Item)
            """)
        for line in [
            "/// A thing in store.", "public struct StoredItem: Codable, Hashable, Sendable {",
            "/// How large it is.", "public var sizeBytes: UInt64", "public var keyID: UInt16?",
            "case sizeBytes = \"size_bytes\"",
            "sizeBytes = try fields.decode(UInt64.self, forKey: .sizeBytes, in: 0...1 << 52)",
            "public init(sizeBytes: UInt64, keyID: UInt16? = nil) {", "public enum Find: ControlMethod {",
            "public static let streams = true", "public var item: StoredItem?", "case find = \"Find\"",
        ] {
            #expect(swift.contains(line), "\(line)")
        }
    }

    @Test func `a parameter is decoded without its range, for the service to name value and limit`() throws {
        let swift = try types(
            "# @field size UInt64 0...2^52\ninterface io.example.Store\n\nmethod Resize(size: int) -> (size: int)")
        let reply = try #require(swift.firstRange(of: "public struct Reply"))
        #expect(!swift[..<reply.lowerBound].contains("1 << 52"))
        #expect(swift[reply.lowerBound...].contains("decode(UInt64.self, forKey: .size, in: 0...1 << 52)"))
    }

    @Test(arguments: [
        ("type A (size: int)", "A.size", "Swift type"), ("type A (side: (x, y))", "A.side", "@type"),
        ("# @sweft B\ntype A (x: bool)", "A", "known annotation"),
        ("type A (\n# @type S\na: (x, y),\n# @type S\nb: (x, z))", "A.b", "cases"),
        ("# @reply-of B\nmethod A() -> (x: bool)\nmethod B() -> (y: bool)", "A", "reply"),
        ("# @same\ntype A (x: bool)", "A", "extends"),
    ])
    func `what cannot be written is refused with its place`(_ text: String, _ place: String, _ word: String) throws {
        let error = #expect(throws: GeneratorError.self) { try types("interface io.example.Store\n\n" + text) }
        #expect(error?.place == place)
        #expect(error?.reason.contains(word) == true, "\(String(describing: error))")
    }

    @Test func `a type that two interfaces share is written once, and must be the same`() throws {
        let base = "interface io.example.Base\n\n# @swift Shared\ntype A (x: bool)"
        func other(_ field: String) -> String {
            "# @extends io.example.Base\ninterface io.example.Other\n\n# @same\ntype A (\(field))\n\nmethod Get() -> (a: A)"
        }
        let swift = try types(other("x: bool"), extending: base)
        #expect(swift.contains("public var a: Shared"))
        #expect(!swift.contains("struct Shared"))
        #expect(throws: GeneratorError.self) { try types(other("y: bool"), extending: base) }
    }
}
