import FoundationEssentials
import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import Varlink

/// The error of a raw reply, and its parameters.
private func error(of text: String?) throws -> (name: String, parameters: [String: JSONValue]) {
    let text = try #require(text)
    let message = Array(text.utf8)
    let header = try MessageCoding.header(ReplyHeader.self, of: message, depthLimit: 32)
    return (header.error ?? "", try MessageCoding.parameters([String: JSONValue].self, of: message))
}

extension ServerFixture {
    fileprivate func isServing() throws -> Bool {
        try client().call("io.example.Echo.Echo", Echo(text: "still here"), as: Echo.self).text == "still here"
    }
}

@Suite struct `Hostile and clumsy clients` {
    @Test(arguments: ["nonsense\0", "\0", "{}\0", "[]\0", "{\"method\":7}\0", "\u{0}\u{0}"])
    func `a message that is none gets an error and an end`(_ text: String) throws {
        let fixture = try ServerFixture()
        let raw = try fixture.rawSocket()
        raw.send(text)
        let seen = try error(of: raw.readMessage())
        #expect(seen.name == "org.varlink.service.InvalidParameter")
        #expect(seen.parameters["parameter"] == .string("message"))
        #expect(raw.readMessage() == nil)
        #expect(try fixture.isServing())
    }

    @Test func `a message that never ends is cut off at the limit`() throws {
        let fixture = try ServerFixture()
        let raw = try fixture.rawSocket()
        let block = String(repeating: "a", count: 1 << 16)
        raw.send(#"{"method":""#)
        var sent = 0
        while fixture.closed.withLock({ $0.isEmpty }) {
            sent += raw.send(block)
            usleep(100)
        }
        #expect(fixture.closed.withLock { $0.first } == .violation(.messageTooLong(limit: 1 << 20)))
        // What the kernel's buffers took beyond the limit was never read.
        #expect(sent < 3 << 20)
        #expect(
            try error(of: raw.readMessage()).parameters["reason"] == .string("the message is longer than 1048576 bytes")
        )
        #expect(try fixture.isServing())
    }

    @Test func `a message nested too deeply is refused`() throws {
        let fixture = try ServerFixture()
        let raw = try fixture.rawSocket()
        raw.send(
            #"{"method":"io.example.Echo.Echo","parameters":"# + String(repeating: "[", count: 5000)
                + String(repeating: "]", count: 5000) + "}\0")
        #expect(
            try error(of: raw.readMessage()).parameters["reason"]
                == .string("the message is nested deeper than 32 levels"))
    }

    @Test func `a client that says nothing is dropped and the others are served`() throws {
        var limits = VarlinkLimits()
        limits.messageTimeout = .milliseconds(30)
        let fixture = try ServerFixture(limits: limits)
        let silent = try fixture.rawSocket()
        let slow = try fixture.rawSocket()
        slow.send(#"{"method":"#)
        #expect(silent.readMessage() == nil)
        #expect(slow.readMessage() == nil)
        eventually { fixture.closed.withLock { $0.count } == 2 }
        #expect(fixture.closed.withLock { $0 } == [.silent, .silent])
        #expect(try fixture.isServing())
    }

    @Test func `a client that stops reading is dropped and its call cancelled`() throws {
        var limits = VarlinkLimits()
        limits.queuedBytes = 1 << 16
        let fixture = try ServerFixture(limits: limits)
        let raw = try fixture.rawSocket()
        raw.send(#"{"method":"io.example.Echo.Hold","more":true}"# + "\0")
        eventually { fixture.held.withLock { $0.count } == 1 }
        let call = try #require(fixture.held.withLock { $0.first })
        let cancelled = Flag()
        call.onDisconnect { cancelled.set() }
        let text = Echo(text: String(repeating: "x", count: 10_000))
        while !call.isCancelled {
            call.replyContinues(text)
            usleep(10)
        }
        eventually { cancelled.isSet }
        eventually { fixture.closed.withLock { !$0.isEmpty } }
        #expect(fixture.closed.withLock { $0 } == [.stalled])
        #expect(try fixture.isServing())
    }

    @Test func `who answers in parts hears when the client has taken one, and not before`() throws {
        let fixture = try ServerFixture()
        let raw = try fixture.rawSocket()
        raw.send(#"{"method":"io.example.Echo.Hold","more":true}"# + "\0")
        eventually { fixture.held.withLock { $0.count } == 1 }
        let call = try #require(fixture.held.withLock { $0.popLast() })
        let taken = Flag()
        // More than the kernel takes for a client that does not read.
        let text = Echo(text: String(repeating: "x", count: 8 << 20))
        call.replyContinues(text) { taken.set() }
        // Another client's answer comes from the same loop, behind the part.
        #expect(try fixture.isServing())
        #expect(!taken.isSet)
        #expect(raw.readLongMessage() > 8 << 20)
        eventually { taken.isSet }
        call.reply(Echo(text: "last"))
        #expect(raw.readMessage()?.contains("last") == true)
    }

    @Test func `who answers in parts is let go when the client leaves, and hears nothing`() throws {
        let fixture = try ServerFixture()
        let taken = Flag()
        final class Answerer: Sendable {}
        weak var answerer: Answerer?
        do {
            let raw = try fixture.rawSocket()
            raw.send(#"{"method":"io.example.Echo.Hold","more":true}"# + "\0")
            eventually { fixture.held.withLock { $0.count } == 1 }
            let call = try #require(fixture.held.withLock { $0.popLast() })
            let who = Answerer()
            answerer = who
            call.replyContinues(Echo(text: String(repeating: "x", count: 8 << 20))) {
                withExtendedLifetime((who, call)) { taken.set() }
            }
            #expect(try fixture.isServing())
        }
        eventually { answerer == nil }
        #expect(!taken.isSet)
        #expect(try fixture.isServing())
    }

    @Test func `who answers in parts goes on at once where the client wants the last answer alone`() throws {
        let fixture = try ServerFixture()
        let raw = try fixture.rawSocket()
        raw.send(#"{"method":"io.example.Echo.Hold"}"# + "\0")
        eventually { fixture.held.withLock { $0.count } == 1 }
        let call = try #require(fixture.held.withLock { $0.popLast() })
        let taken = Flag()
        call.replyContinues(Echo(text: "part")) { taken.set() }
        #expect(taken.isSet)
        call.reply(Echo(text: "last"))
        #expect(raw.readMessage()?.contains("last") == true)
    }

    @Test func `a client that leaves cancels its call`() throws {
        let fixture = try ServerFixture()
        do {
            let raw = try fixture.rawSocket()
            raw.send(#"{"method":"io.example.Echo.Hold"}"# + "\0")
            eventually { fixture.held.withLock { $0.count } == 1 }
        }
        let call = try #require(fixture.held.withLock { $0.first })
        eventually { call.isCancelled }
        let late = Flag()
        call.onDisconnect { late.set() }
        #expect(late.isSet)
        call.reply()
        eventually { fixture.closed.withLock { $0.count } == 1 }
        #expect(fixture.closed.withLock { $0 } == [.peerClosed])
    }

    @Test func `pipelined calls are answered in order and one at a time`() throws {
        let fixture = try ServerFixture()
        let raw = try fixture.rawSocket()
        raw.send(
            #"{"method":"io.example.Echo.Hold"}"# + "\0"
                + #"{"method":"io.example.Echo.Echo","parameters":{"text":"a"}}"# + "\0"
                + #"{"method":"io.example.Echo.Echo","parameters":{"text":"b"}}"# + "\0")
        eventually { fixture.held.withLock { $0.count } == 1 }
        // The loop has seen all three messages; one round trip on another connection proves that it went on.
        #expect(try fixture.isServing())
        #expect(fixture.echoed.withLock { $0 } == ["still here"])
        fixture.held.withLock { $0.removeFirst() }.reply()
        #expect(raw.readMessage() == #"{"parameters":{}}"#)
        #expect(raw.readMessage() == #"{"parameters":{"text":"a"}}"#)
        #expect(raw.readMessage() == #"{"parameters":{"text":"b"}}"#)
    }

    @Test func `a oneway call is done and not answered`() throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        try client.callOneway("io.example.Echo.Echo", Echo(text: "one"))
        try client.callOneway("io.example.Echo.Fail")
        try client.callOneway("io.example.Echo.Abandon")
        try client.callOneway("io.example.Echo.NoSuchMethod")
        #expect(try client.call("io.example.Echo.Echo", Echo(text: "two"), as: Echo.self).text == "two")
        #expect(fixture.echoed.withLock { $0 } == ["one", "two"])
    }

    @Test func `oneway calls of a client that left at once are still done`() throws {
        let fixture = try ServerFixture()
        do {
            let client = try fixture.client()
            for text in ["one", "two", "three"] { try client.callOneway("io.example.Echo.Echo", Echo(text: text)) }
        }
        eventually { fixture.echoed.withLock { $0.count } == 3 }
        #expect(fixture.echoed.withLock { $0 } == ["one", "two", "three"])
    }

    @Test func `a client that half-closes still gets its answer`() throws {
        let fixture = try ServerFixture()
        let raw = try fixture.rawSocket()
        raw.send(#"{"method":"io.example.Echo.Echo","parameters":{"text":"a"}}"# + "\0")
        UnixSocket.shutdownWriting(raw.socket.descriptor)
        #expect(raw.readMessage() == #"{"parameters":{"text":"a"}}"#)
        #expect(raw.readMessage() == nil)
    }

    @Test func `a call that its handler forgets closes the connection`() throws {
        let fixture = try ServerFixture()
        let failure = #expect(throws: VarlinkClientError.self) {
            try fixture.client().call("io.example.Echo.Abandon", as: NoParameters.self)
        }
        guard case .disconnected? = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        eventually { fixture.closed.withLock { $0.count } == 1 }
        #expect(fixture.closed.withLock { $0 } == [.unanswered(method: "io.example.Echo.Abandon")])
    }

    @Test(arguments: [
        ("io.example.Nowhere.Get", "InterfaceNotFound", "interface", "io.example.Nowhere"),
        ("nodots", "InterfaceNotFound", "interface", "nodots"),
        ("io.example.Echo.Missing", "MethodNotFound", "method", "io.example.Echo.Missing"),
        ("io.example.Echo.Unwritten", "MethodNotImplemented", "method", "io.example.Echo.Unwritten"),
        ("io.example.Echo.Echo", "InvalidParameter", "parameter", "text"),
    ])
    func `standard errors say what is missing`(_ method: String, _ name: String, _ key: String, _ value: String) throws
    {
        let fixture = try ServerFixture()
        let failure = #expect(throws: VarlinkClientError.self) {
            try fixture.client().call(method, as: NoParameters.self)
        }
        guard case .reply(let reply)? = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        #expect(reply.name == "org.varlink.service." + name)
        #expect(try reply.parameters(as: [String: JSONValue].self)[key] == .string(value))
    }

    @Test func `a misspelt parameter is refused`() throws {
        let fixture = try ServerFixture()
        let raw = try fixture.rawSocket()
        raw.send(#"{"method":"io.example.Echo.Echo","parameters":{"text":"a","txet":"b"}}"# + "\0")
        #expect(try error(of: raw.readMessage()).parameters["parameter"] == .string("txet"))
        #expect(fixture.echoed.withLock { $0 } == [])
    }

    @Test func `connections beyond a user's limit are told so and former ones go on`() throws {
        var limits = VarlinkLimits()
        limits.connectionsPerUser = 2
        let fixture = try ServerFixture(limits: limits)
        let first = try fixture.client()
        let second = try fixture.client()
        for client in [first, second] {
            #expect(try client.call("io.example.Echo.Echo", Echo(text: "a"), as: Echo.self).text == "a")
        }
        let failure = #expect(throws: VarlinkClientError.self) {
            try fixture.client().call("io.example.Echo.Echo", Echo(text: "b"), as: Echo.self)
        }
        guard case .reply(let reply)? = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        #expect(try reply.parameters(as: [String: String].self)["reason"] == "more than 2 connections of one user")
        first.close()
        eventually { fixture.closed.withLock { $0.contains(.peerClosed) } }
        #expect(try fixture.isServing())
        #expect(try second.call("io.example.Echo.Echo", Echo(text: "c"), as: Echo.self).text == "c")
    }

    @Test func `more descriptors than are allowed end the connection and none stays open`() throws {
        var limits = VarlinkLimits()
        limits.descriptors = 2
        let fixture = try ServerFixture(limits: limits)
        let ends = try UnixSocket.pair()
        try ends.split { mine, passed in
            let raw = try fixture.rawSocket()
            raw.send(
                #"{"method":"io.example.Echo.ReadFile"}"# + "\0",
                descriptors: [Int32](repeating: passed.rawValue, count: 3))
            _ = consume passed
            #expect(
                try error(of: raw.readMessage()).parameters["reason"]
                    == .string("more than 2 file descriptors came along"))
            #expect(RawClient(mine).readMessage() == nil)
        }
        #expect(try fixture.isServing())
    }

    @Test func `descriptors that a handler does not take are closed with the call`() throws {
        let fixture = try ServerFixture()
        let ends = try UnixSocket.pair()
        try ends.split { mine, passed in
            let client = try fixture.client()
            _ = try client.call(
                "io.example.Echo.Echo", Echo(text: "a"), as: Echo.self, descriptors: [passed.rawValue])
            _ = consume passed
            #expect(RawClient(mine).readMessage() == nil)
        }
    }

    @Test func `many clients at once get their own answers`() throws {
        let fixture = try ServerFixture()
        let wrong = Atomic(0)
        let threads = try (0..<8).map { worker in
            try SystemThread(name: "client") {
                do {
                    let client = try fixture.client()
                    for round in 0..<200 {
                        let text = "\(worker)/\(round)"
                        if try client.call("io.example.Echo.Echo", Echo(text: text), as: Echo.self).text != text {
                            wrong.add(1, ordering: .relaxed)
                        }
                    }
                } catch {
                    wrong.add(1, ordering: .relaxed)
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.load(ordering: .relaxed) == 0)
    }

    @Test func `a reply that is no reply is a protocol violation`() throws {
        for text in ["nonsense\0", #"{"parameters":[]}"# + "\0", #"{"parameters":{"text":7}}"# + "\0"] {
            let pair = try UnixSocket.pair()
            try pair.split { mine, theirs in
                _ = try UnixSocket.send(Array(text.utf8)[...], on: theirs)
                let client = VarlinkClient(connected: mine)
                let failure = #expect(throws: VarlinkClientError.self) {
                    try client.call("io.example.Echo.Echo", Echo(text: ""), as: Echo.self)
                }
                guard case .protocolViolation? = failure else {
                    Issue.record("\(String(describing: failure))")
                    return
                }
            }
        }
    }

    @Test func `closing a client from another thread ends its call`() throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        let closer = try SystemThread(name: "closer") {
            eventually { fixture.held.withLock { $0.count } == 1 }
            client.close()
        }
        let failure = #expect(throws: VarlinkClientError.self) {
            try client.call("io.example.Echo.Hold", as: NoParameters.self, timeout: nil)
        }
        closer.join()
        guard case .disconnected? = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
    }
}
