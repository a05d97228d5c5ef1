import Glibc
import TestSupport

/// Messages that no honest client sends, from a seed: the same seed gives the same messages.
struct HostileMessages {
    enum Kind: CaseIterable, Sendable {
        /// Bytes of no meaning, ended like a message.
        case garbage
        /// The beginning of a call, ended like a message.
        case truncated
        case unknownMethod, wrongType, wrongValue
        /// JSON that is no call.
        case noCall
        /// Calls with flags that do not go with them.
        case wrongFlags
        /// Objects in objects, beyond any limit.
        case deep
        /// One value of up to 100 KB, within the limit of a message.
        case long
        /// Valid, and its long answer is not read at once.
        case flood
    }

    private var random: SeededRandom

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    /// One message with its terminating NUL.
    struct Message {
        var kind: Kind
        var bytes: [UInt8]
        /// False for a call that says that it wants none.
        var isAnswered: Bool
    }

    mutating func next() -> Message {
        // What ends the connection or takes long is rarer, so that the others come in numbers.
        let roll = Int.random(in: 0..<1000, using: &random)
        let kind: Kind =
            switch roll {
            case ..<8: .garbage
            case ..<16: .truncated
            case ..<22: .deep
            case ..<30: .noCall
            case ..<35: .long
            case ..<200: .unknownMethod
            case ..<550: .wrongType
            case ..<850: .wrongValue
            case ..<970: .wrongFlags
            default: .flood
            }
        let bytes = make(kind)
        return Message(kind: kind, bytes: bytes + [0], isAnswered: kind != .wrongFlags || !Self.isOneway(bytes))
    }

    private mutating func make(_ kind: Kind) -> [UInt8] {
        switch kind {
        case .garbage: return (0..<Int.random(in: 1...400, using: &random)).map { _ in byte(notNul: true) }
        case .truncated:
            let whole = call(method(), parameters: #"{"name":"web1","gpa":0,"bytes":4096,"to":"shared"}"#)
            return Array(whole.prefix(Int.random(in: 1..<whole.count, using: &random)))
        case .unknownMethod:
            return call(
                pick([
                    "io.tdxd.Manager.Explode", "io.tdxd.Manager.", "io.tdxd.Holder.Build", "List", "", ".", "a.b",
                    "org.varlink.service.Nothing", "io.tdxd.Manager.list", "io.tdxd.Manager.List.List",
                    "io.tdxd.\u{202e}Manager.List",
                ]), parameters: "{}")
        case .wrongType:
            return call(method(), parameters: "{\"\(field())\":\(wrong()),\"\(field())\":\(wrong())}")
        case .wrongValue: return wrongValue()
        case .noCall:
            return Array(
                pick([
                    #"{"method":7}"#, #"{"parameters":{}}"#, "{}", "null", "[]", "\"io.tdxd.Manager.List\"", "0",
                    #"{"method":"io.tdxd.Manager.List","parameters":[]}"#,
                    #"{"method":"io.tdxd.Manager.List","more":"yes"}"#,
                    #"{"error":"io.tdxd.Manager.NameTaken","parameters":{}}"#,
                ]).utf8)
        case .wrongFlags:
            return Array(
                pick([
                    #"{"method":"io.tdxd.Manager.List","upgrade":true}"#,
                    #"{"method":"io.tdxd.Manager.Show","more":true,"parameters":{"name":"absent"}}"#,
                    #"{"method":"io.tdxd.Manager.Create","oneway":true,"parameters":{"name":"","memory_bytes":0,"vcpus":0}}"#,
                    #"{"method":"io.tdxd.Manager.Create","oneway":true}"#,
                    #"{"method":"io.tdxd.Manager.List","method":"io.tdxd.Manager.Show"}"#,
                    #"{"method":"io.tdxd.Manager.GetKeys","something":{"else":[1,2,3]}}"#,
                ]).utf8)
        case .deep:
            let depth = Int.random(in: 33...20_000, using: &random)
            return call("io.tdxd.Manager.Show", parameters: String(repeating: "{\"a\":", count: depth))
        case .long:
            let text = String(
                repeating: pick(["a", "\\u0000", "é"]), count: Int.random(in: 1...15_000, using: &random))
            return call("io.tdxd.Manager.Show", parameters: "{\"name\":\"\(text)\"}")
        case .flood:
            return call("org.varlink.service.GetInterfaceDescription", parameters: #"{"interface":"io.tdxd.Manager"}"#)
        }
    }

    /// Well formed and out of range: it must be refused by name, and start nothing.
    private mutating func wrongValue() -> [UInt8] {
        let number = pick([
            "-1", "0", "1", "9223372036854775807", "-9223372036854775808", "18446744073709551616", "1e999", "4097",
            "0.5",
        ])
        let name = pick(["", "..", "../../etc", "a b", "WEB", "nobody-has-this", String(repeating: "x", count: 65)])
        return switch Int.random(in: 0..<5, using: &random) {
        case 0:
            call("io.tdxd.Manager.Create", parameters: "{\"name\":\"\(name)\",\"memory_bytes\":\(number),\"vcpus\":0}")
        case 1:
            call(
                "io.tdxd.Manager.Convert",
                parameters: "{\"name\":\"\(name)\",\"gpa\":\(number),\"bytes\":\(number),\"to\":\"both\"}")
        case 2: call("io.tdxd.Manager.Show", parameters: "{\"name\":\"\(name)\"}")
        case 3: call("io.tdxd.Manager.MapChanges", parameters: "{\"name\":\"\(name)\",\"since\":\(number)}")
        default: call("io.tdxd.Manager.GetCertificate", parameters: "{\"certificate\":\"\(name)\"}")
        }
    }

    /// Methods that a wrong parameter keeps from doing anything.
    private mutating func method() -> String {
        "io.tdxd.Manager."
            + pick([
                "Show", "Map", "MapChanges", "Create", "Convert", "Stop", "PlanStop", "Verify", "Reclaim",
                "GetCertificate", "Inventory",
            ])
    }

    private mutating func field() -> String {
        pick([
            "name", "gpa", "bytes", "to", "since", "vcpus", "memory_bytes", "policy", "wait", "certificate", "\\u0000",
        ])
    }

    private mutating func wrong() -> String {
        pick([
            "[]", "{}", "null", "true", "1e400", "-0", "\"\\ud800\"", "[[[[]]]]", "{\"name\":{}}",
            "99999999999999999999",
        ])
    }

    private static func isOneway(_ bytes: [UInt8]) -> Bool {
        String(decoding: bytes, as: UTF8.self).contains("\"oneway\":true")
    }

    private func call(_ method: String, parameters: String) -> [UInt8] {
        Array("{\"method\":\"\(method)\",\"parameters\":\(parameters)}".utf8)
    }

    private mutating func pick(_ choices: [String]) -> String { choices.randomElement(using: &random)! }

    private mutating func byte(notNul: Bool) -> UInt8 { UInt8.random(in: 1...255, using: &random) }
}
