import ControlInterface
import FoundationEssentials
import Glibc
import LinuxSystem
import Testing

@testable import Varlink

/// The project's folder.
private let root = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }

/// Runs a shell command; gives its standard output, or nil when it fails.
private func shell(_ command: String) -> String? {
    guard let stream = popen(command, "re") else { return nil }
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = fread(&buffer, 1, buffer.count, stream), count > 0 { output += buffer[..<count] }
    guard pclose(stream) == 0 else { return nil }
    return String(decoding: output, as: UTF8.self)
}

/// The Python that has PyPI's varlink package; nil where Python or PyPI cannot be had.
private let python: String? = shell("'\(root)/scripts/python-varlink-venv' 2>/dev/null")?
    .split(separator: "\n").last.map(String.init)

private func drive(_ arguments: String...) throws -> JSONValue {
    let quoted = arguments.map { "'\($0)'" }.joined(separator: " ")
    let output = try #require(shell("'\(python!)' '\(root)/Tests/VarlinkTests/Python/drive.py' \(quoted)"))
    return try JSONDecoder().decode(JSONValue.self, from: Data(output.utf8))
}

@Suite(.enabled(if: python != nil, "scripts/python-varlink-venv cannot make a Python with the varlink package"))
struct `Python's varlink package` {
    @Test func `introspects a server`() throws {
        let fixture = try ServerFixture()
        guard case .object(let seen) = try drive("introspect", fixture.path, "io.example.Echo"),
            case .object(let info) = seen["info"], case .object(let methods) = seen["methods"]
        else {
            Issue.record("the driver printed something else")
            return
        }
        #expect(info["product"] == .string("Echo"))
        #expect(info["interfaces"] == .array([.string("org.varlink.service"), .string("io.example.Echo")]))
        #expect(Set(methods.keys) == Set(try VarlinkInterface(parsing: echoInterface).methods.keys))
        #expect(methods["Count"] == .array([.array([.string("to")]), .array([.string("number")])]))
    }

    @Test func `calls a method and gets its reply`() throws {
        let fixture = try ServerFixture()
        let seen = try drive("call", fixture.path, "io.example.Echo", "Echo", #"{"text": "grüße \"x\" \u0001"}"#)
        #expect(seen == .object(["reply": .object(["text": .string("grüße \"x\" \u{1}")])]))
    }

    @Test func `takes several replies`() throws {
        let fixture = try ServerFixture()
        let seen = try drive("more", fixture.path, "io.example.Echo", "Count", #"{"to": 3}"#)
        let replies = (1...3).map { JSONValue.object(["number": .int($0)]) }
        #expect(seen == .object(["replies": .array(replies)]))
    }

    @Test func `understands an error and its nullable parameters`() throws {
        let fixture = try ServerFixture()
        let seen = try drive("call", fixture.path, "io.example.Echo", "Fail", "{}")
        let pair = JSONValue.object(["left": .string("a"), "right": .int(7)])
        #expect(
            seen
                == .object([
                    "error": .string("io.example.Echo.Broken"), "parameters": .object(["pair": pair]),
                ]))
    }

    @Test(arguments: [InterfaceName.manager, InterfaceName.holder])
    func `reads the control interfaces as this parser does`(_ name: String) throws {
        let fixture = try ServerFixture()
        let text = name == InterfaceName.manager ? InterfaceDescription.manager : InterfaceDescription.holder
        fixture.register(text)
        guard case .object(let seen) = try drive("introspect", fixture.path, name),
            case .array(let members) = seen["members"]
        else {
            Issue.record("the driver printed something else")
            return
        }
        let ours = try VarlinkInterface(parsing: text)
        let names = Array(ours.types.keys) + Array(ours.methods.keys) + Array(ours.errors.keys)
        #expect(members == names.sorted().map(JSONValue.string))
    }
}
