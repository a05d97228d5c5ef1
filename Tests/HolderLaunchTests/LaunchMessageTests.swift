import HolderLaunch
import LinuxSystem
import ServiceSupport
import SystemPackage
import Testing

@Suite struct `Messages of the launcher` {
    static let id = "0123456789abcdef0123456789abcdef"

    static var order: ServeOrder {
        var configuration = TDXDConfiguration()
        configuration.backends.backend = .memfd
        configuration.backends.emulatedLastWill = .yes
        return ServeOrder(id: id, configuration)
    }

    @Test func `are read back as they were written`() throws {
        let orders: [LaunchRequest.Order] = [.serve(Self.order), .probe(.auto), .selfTest(.guestMemfd)]
        for (number, order) in orders.enumerated() {
            let request = LaunchRequest(number: UInt64(number + 1), order: order)
            #expect(request.encoded().count <= LaunchRequest.limit)
            #expect(try LaunchRequest(decoding: request.encoded()) == request)
        }
        let answers: [LaunchAnswer] = [
            .ready(fence: "in force, version 6"), .started(number: 7, pid: 4711),
            .refused(number: 8, LinuxError("execve", .noSuchFileOrDirectory, detail: "/x")),
            .ended(number: 7, .exited(status: 3)), .ended(number: 9, .killed(by: .kill, coreDumped: true)),
        ]
        for answer in answers { #expect(try LaunchAnswer(decoding: answer.encoded()) == answer) }
    }

    @Test func `become the holder's command line, with paths that no message has`() {
        #expect(
            Self.order.arguments(holders: "/run/tdxd/holders", traces: "/traces") == [
                "serve", "--directory", "/run/tdxd/holders/\(Self.id)", "--backend", "memfd",
                "--log-level", "info", "--last-will", "--emulated-last-will", "--trace", "/traces/\(Self.id).jsonl",
            ])
        let plain = ServeOrder(id: Self.id, TDXDConfiguration())
        #expect(
            !plain.arguments(holders: "/h", traces: nil).contains {
                ["--emulated", "--trace"].contains(where: $0.hasPrefix)
            })
    }

    /// A request with one of its parts replaced.
    static func spoilt(_ part: String, _ other: String) -> [UInt8] {
        let text = String(decoding: LaunchRequest(number: 5, order: .serve(order)).encoded(), as: UTF8.self)
        precondition(text.contains(part), "\(text) has no \(part)")
        return Array(text.replacing(part, with: other).utf8)
    }

    @Test(
        arguments: [
            ("id", id, "../../../../../../../../../../etc"), ("id", id, id.uppercased()), ("id", id, id + "0"),
            ("id", id, ""),
            ("message", "\"memfd\"", "\"--kvm-device\""),
            ("message", "\"info\"", "\"loud\""), ("order", "}}", "},\"probe\":\"auto\"}"), ("number", ":5", ":0"),
            ("message", "}}", "}"),
        ])
    func `that ask for what is on no list are refused by field`(field: String, part: String, other: String) {
        let flaw = #expect(throws: LaunchFlaw.self) { try LaunchRequest(decoding: Self.spoilt(part, other)) }
        #expect(flaw?.field == field, "\(String(describing: flaw))")
    }

    @Test func `that are too long or none are refused`() {
        #expect(throws: LaunchFlaw.self) { try LaunchRequest(decoding: []) }
        #expect(throws: LaunchFlaw.self) { try LaunchRequest(decoding: Array("{\"number\":1}".utf8)) }
        let long = Array("{\"number\":1,\"probe\":\"auto\"}".utf8) + [UInt8](repeating: 0x20, count: 4096)
        #expect(
            (#expect(throws: LaunchFlaw.self) { try LaunchRequest(decoding: long) })?.value == "\(long.count) bytes")
        #expect(throws: LaunchFlaw.self) { try LaunchAnswer(decoding: Array("{\"number\":1}".utf8)) }
        #expect(throws: LaunchFlaw.self) { try LaunchAnswer(decoding: Array("{\"number\":1,\"pid\":-1}".utf8)) }
    }

    @Test(arguments: ["x", "\u{1}", "\"", "/", "ä", "👩‍👩‍👧‍👦"])
    func `fit, whatever is to be said and however long`(letter: String) throws {
        let text = String(repeating: letter, count: 5000)
        for answer in [
            LaunchAnswer.ready(fence: text),
            .refused(number: .max, LinuxError(text, Errno(rawValue: .min), detail: text)),
        ] {
            let message = answer.encoded()
            #expect(message.count <= LaunchRequest.limit)
            let again = try LaunchAnswer(decoding: message)
            #expect(try LaunchAnswer(decoding: again.encoded()) == again)
            switch again {
            case .ready(let fence): #expect(fence.hasPrefix(letter))
            case .refused(let number, let error): #expect(number == .max && error.detail.hasPrefix(letter))
            case let other: Issue.record("\(other)")
            }
        }
    }

    @Test func `that are refused still tell their number`() {
        #expect(LaunchRequest.number(in: Self.spoilt("\"memfd\"", "\"none\"")) == 5)
        #expect(LaunchRequest.number(in: [0xff]) == nil)
    }
}
