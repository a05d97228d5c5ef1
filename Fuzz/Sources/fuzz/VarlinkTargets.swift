internal import ControlInterface
internal import LinuxSystem

internal import struct FoundationEssentials.Data
internal import class FoundationEssentials.JSONDecoder

@testable internal import Varlink

extension FuzzTarget {
    /// First byte: seed of the cuts; second: the message limit; then the stream. However it is cut, the messages are the
    /// same, and so is the violation that ends them.
    static let framer = FuzzTarget(name: "framer") { bytes in
        var reader = InputReader(bytes)
        let seed = reader.byte()
        let limit = Int(reader.byte())
        let stream = Array(reader.rest)

        let whole = frame([stream], limit: limit)
        var pieces: [[UInt8]] = []
        var state = UInt32(seed) &* 2_654_435_761 | 1
        var rest = stream[...]
        while !rest.isEmpty {
            state = state &* 1_664_525 &+ 1_013_904_223
            let count = min(rest.count, Int(state >> 24) % 9 + (seed & 1 == 0 ? 1 : 0))
            pieces.append(Array(rest.prefix(count)))
            rest = rest.dropFirst(count)
        }
        let cut = frame(pieces, limit: limit)
        hold(whole.messages == cut.messages, "\(whole.messages) in one piece, \(cut.messages) cut")
        hold(whole.violation == cut.violation, "the violation depends on the cuts")

        // An independent reader: what lies between terminators, up to the first that is too long.
        let parts = stream.split(separator: 0, omittingEmptySubsequences: false)
        let expected = parts.dropLast().prefix { $0.count <= limit }.map(Array.init)
        hold(whole.messages == expected, "\(whole.messages), not \(expected)")
        let isViolated = parts.contains { $0.count > limit }
        hold((whole.violation != nil) == isViolated, "violation \(whole.violation as Any), expected \(isViolated)")
    }

    private static func frame(
        _ pieces: [[UInt8]], limit: Int
    ) -> (messages: [[UInt8]], violation: ProtocolViolation?) {
        var framer = MessageFramer(messageLimit: limit, descriptorLimit: 0)
        var messages: [[UInt8]] = []
        do throws(ProtocolViolation) {
            for piece in pieces {
                try framer.append(piece, descriptors: ReceivedDescriptors())
                while let message = try framer.next() { messages.append(message.bytes) }
            }
        } catch { return (messages, error) }
        return (messages, nil)
    }

    private static let manager: VarlinkInterface = {
        do { return try VarlinkInterface(parsing: InterfaceDescription.manager) } catch { fatalError("\(error)") }
    }()

    /// A message without its terminator: a call to the manager, and a reply. What is read is written and read again the
    /// same, and nothing deeper than the limit gets to the recursive parser.
    static let message = FuzzTarget(name: "message") { bytes in
        let depthLimit = VarlinkLimits().nestingDepth
        do throws(ProtocolViolation) {
            let call = try MessageCoding.header(CallHeader.self, of: bytes, depthLimit: depthLimit)
            hold(nestingDepth(of: bytes) <= depthLimit, "a call nested too deeply is read")
            hold(
                (try? JSONDecoder().decode(SomeObject.self, from: Data(bytes))) != nil,
                "another reader calls this no JSON")
            let name = call.method.split(separator: ".").last.map(String.init) ?? ""
            for (method, declaration) in manager.methods where method == name || name.isEmpty {
                do throws(TypeMismatch) {
                    try manager.check(parametersOf: bytes, against: declaration.parameters)
                } catch { hold(!error.description.isEmpty, "a mismatch without words") }
            }
            if let value = try? MessageCoding.parameters(JSONValue.self, of: bytes) { roundTrip(value, call.method) }
            if let value = try? PartDecoder(JSONPart(bytes, depthLimit: depthLimit)).decode(JSONValue.self) {
                let other = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes))
                hold(other.map { isSame(value, $0) } ?? false, "another reader reads \(value) as \(other as Any)")
            }
        } catch { hold(!error.description.isEmpty, "a violation without words") }
        do throws(ProtocolViolation) {
            let reply = try MessageCoding.header(ReplyHeader.self, of: bytes, depthLimit: depthLimit)
            if let error = reply.error { _ = VarlinkErrorReply(error).interface }
        } catch { hold(!error.description.isEmpty, "a violation without words") }
    }

    /// Equal, but for the last digits of large numbers: where 66666666666666663.5 is asked for as a whole number, this reader has none and
    /// tells the nearest double, and the other one cuts the fraction off.
    private static func isSame(_ a: JSONValue, _ b: JSONValue) -> Bool {
        switch (a, b) {
        case (.array(let a), .array(let b)): return a.count == b.count && zip(a, b).allSatisfy { isSame($0, $1) }
        case (.object(let a), .object(let b)):
            return a.count == b.count && a.allSatisfy { name, value in b[name].map { isSame(value, $0) } ?? false }
        default:
            guard let a = number(a), let b = number(b), abs(a) > 1e12 else { return a == b }
            return abs(a - b) <= max(1, abs(a) * 1e-15)
        }
    }

    private static func number(_ value: JSONValue) -> Double? {
        switch value {
        case .int(let whole): Double(whole)
        case .double(let number): number
        default: nil
        }
    }

    /// Decodes from any JSON object, whatever is in it.
    private struct SomeObject: Decodable {
        private enum NoKey: CodingKey {}
        init(from decoder: any Decoder) throws { _ = try decoder.container(keyedBy: NoKey.self) }
    }

    /// How many objects and arrays are open at once at most, outside of texts.
    private static func nestingDepth(of message: [UInt8]) -> Int {
        var (depth, deepest) = (0, 0)
        var (inText, isEscaped) = (false, false)
        for byte in message {
            if inText {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    inText = false
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): inText = true
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                deepest = max(deepest, depth)
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            default: break
            }
        }
        return deepest
    }

    private static func roundTrip(_ value: JSONValue, _ method: String) {
        guard let again = try? MessageCoding.call(method, value) else {
            fatalError("what was read does not encode: \(value)")
        }
        hold(again.last == 0 && !again.dropLast().contains(0), "a terminator inside of a message")
        let read = try? MessageCoding.parameters(JSONValue.self, of: Array(again.dropLast()))
        hold(read == value || value == .null, "\(value) is read again as \(read as Any)")
    }

    /// An interface description: an error names a line of the text, and what parses has a name and only types that exist.
    static let interface = FuzzTarget(name: "interface") { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        do throws(InterfaceError) {
            let interface = try VarlinkInterface(parsing: text)
            hold(interface.name.contains("."), "the name “\(interface.name)” has no dot")
            let fields =
                interface.methods.values.flatMap { $0.parameters + $0.reply } + interface.errors.values.flatMap { $0 }
            for field in fields {
                if case .named = interface.resolve(field.type) { fatalError("\(field) names no type") }
            }
        } catch {
            let lines = text.count { $0.isNewline } + 1
            hold((1...lines).contains(error.line), "the error is in line \(error.line) of \(lines): \(error)")
        }
    }
}
