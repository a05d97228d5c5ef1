import LinuxSystem
import Testing

@testable import Varlink

/// A connection's rules, driven by hand.
private final class Driver {
    var state: ConnectionState
    var now = MonotonicInstant(nanoseconds: 1_000_000_000_000)

    init(_ limits: VarlinkLimits = VarlinkLimits()) { state = ConnectionState(limits: limits, now: now) }

    func receive(_ text: String) {
        state.received(Array(text.utf8), descriptors: ReceivedDescriptors(), now: now)
    }

    func answer(_ text: String, call: UInt64, continues: Bool = false) -> Bool {
        state.answered(call: call, Array(text.utf8), descriptors: [], continues: continues, now: now)
    }

    /// What is to be done, in words.
    func next() -> String {
        switch state.next(now: now) {
        case .dispatch(let message, let call): "dispatch \(call) " + String(decoding: message.bytes, as: UTF8.self)
        case .refuse(let violation): "refuse \(violation)"
        case .close(let reason): "close \(reason)"
        case nil: "wait"
        }
    }

    func sendAll() { while let first = state.output.first { state.sent(first.bytes.count, now: now) } }

    func pass(_ duration: Duration) -> CloseReason? {
        now = now + duration
        return state.expired(now: now)
    }
}

@Suite struct `The rules of a connection` {
    @Test func `the next call waits for the answer to the former`() {
        let driver = Driver()
        driver.receive("a\0b\0c")
        #expect(driver.next() == "dispatch 1 a")
        #expect(driver.next() == "wait")
        #expect(driver.answer("1", call: 1, continues: true))
        #expect(driver.next() == "wait")
        #expect(driver.answer("2", call: 1))
        #expect(driver.next() == "dispatch 2 b")
        #expect(!driver.answer("again", call: 1), "an answer to a former call goes nowhere")
        #expect(driver.answer("3", call: 2))
        #expect(driver.next() == "wait")
        driver.receive("\0")
        #expect(driver.next() == "dispatch 3 c")
    }

    @Test func `reading pauses while enough waits behind a call`() {
        var limits = VarlinkLimits()
        limits.messageBytes = 10
        let driver = Driver(limits)
        driver.receive("a\0")
        #expect(driver.next() == "dispatch 1 a")
        #expect(driver.state.wantsToRead)
        driver.receive("0123456789\0")
        #expect(!driver.state.wantsToRead)
        #expect(driver.answer("x", call: 1))
        #expect(driver.next() == "dispatch 2 0123456789")
        #expect(driver.state.wantsToRead)
    }

    @Test func `a client that ends its sending is answered and then let go`() {
        let driver = Driver()
        driver.receive("a\0")
        driver.state.inputEndedByPeer()
        #expect(driver.next() == "dispatch 1 a")
        #expect(!driver.state.wantsToRead)
        #expect(driver.answer("x", call: 1))
        #expect(driver.next() == "wait", "the answer is still on its way")
        driver.sendAll()
        #expect(driver.next() == "close peerClosed")
    }

    @Test func `a client that vanishes costs no more output`() {
        let driver = Driver()
        driver.receive("a\0")
        #expect(driver.next() == "dispatch 1 a")
        driver.state.peerDisappeared()
        #expect(driver.next() == "wait", "the call is still being worked on")
        #expect(driver.answer("x", call: 1))
        #expect(driver.state.output.isEmpty)
        #expect(driver.next() == "close peerClosed")
    }

    @Test func `a message beyond the limit is refused and then the connection drains`() {
        var limits = VarlinkLimits()
        limits.messageBytes = 3
        let driver = Driver(limits)
        driver.receive("abcd")
        #expect(driver.next() == "refuse the message is longer than 3 bytes")
        driver.state.queue(Array("sorry".utf8), now: driver.now)
        driver.state.closeWhenDrained(.violation(.messageTooLong(limit: 3)))
        #expect(!driver.state.wantsToRead)
        #expect(driver.next() == "wait")
        driver.sendAll()
        #expect(driver.next() == "close violation(the message is longer than 3 bytes)")
    }

    @Test func `a client that does not read is dropped at the limit of queued bytes`() {
        var limits = VarlinkLimits()
        limits.queuedBytes = 100
        let driver = Driver(limits)
        driver.receive("a\0")
        #expect(driver.next() == "dispatch 1 a")
        #expect(driver.answer(String(repeating: "x", count: 100), call: 1, continues: true))
        #expect(driver.next() == "wait")
        #expect(driver.answer("x", call: 1, continues: true))
        #expect(driver.next() == "close stalled")
    }

    @Test func `one answer may be longer than the limit of queued bytes`() {
        var limits = VarlinkLimits()
        limits.queuedBytes = 100
        let driver = Driver(limits)
        driver.receive("a\0")
        #expect(driver.next() == "dispatch 1 a")
        #expect(driver.answer(String(repeating: "x", count: 1000), call: 1))
        #expect(driver.next() == "wait")
        #expect(driver.state.output.byteCount == 1000)
    }

    @Test func `a client that takes nothing is dropped after a while and one that takes a little is not`() {
        let driver = Driver()
        driver.receive("a\0")
        #expect(driver.next() == "dispatch 1 a")
        #expect(driver.answer("0123456789", call: 1, continues: true))
        #expect(driver.pass(.seconds(29)) == nil)
        driver.state.sent(1, now: driver.now)
        #expect(driver.pass(.seconds(29)) == nil)
        #expect(driver.pass(.seconds(1)) == .stalled)
    }

    @Test func `a silent client is dropped after the message time-out`() {
        let driver = Driver()
        #expect(driver.next() == "wait")
        #expect(driver.pass(.seconds(9)) == nil)
        // A byte now and then does not help: the message has to end.
        driver.receive("a")
        #expect(driver.next() == "wait")
        #expect(driver.pass(.milliseconds(999)) == nil)
        #expect(driver.pass(.milliseconds(1)) == .silent)
    }

    @Test func `work takes as long as it takes`() {
        let driver = Driver()
        driver.receive("a\0b")
        #expect(driver.next() == "dispatch 1 a")
        #expect(driver.pass(.seconds(100_000)) == nil)
        #expect(driver.answer("x", call: 1))
        driver.sendAll()
        #expect(driver.next() == "wait")
        // The rest of the next message is due from the answer on.
        #expect(driver.pass(.seconds(9)) == nil)
        #expect(driver.pass(.seconds(1)) == .silent)
    }

    @Test(arguments: [nil, Duration.seconds(60)])
    func `an answered client may stay silent as long as is configured`(_ timeout: Duration?) {
        var limits = VarlinkLimits()
        limits.idleTimeout = timeout
        let driver = Driver(limits)
        driver.receive("a\0")
        #expect(driver.next() == "dispatch 1 a")
        #expect(driver.answer("x", call: 1))
        driver.sendAll()
        #expect(driver.next() == "wait")
        #expect(driver.pass(.seconds(59)) == nil)
        // A new message begins: from here on it is its own time that counts.
        driver.receive("b")
        #expect(driver.next() == "wait")
        #expect(driver.pass(.seconds(9)) == nil)
        driver.receive("\0")
        #expect(driver.next() == "dispatch 2 b")
        #expect(driver.answer("x", call: 2))
        driver.sendAll()
        #expect(driver.next() == "wait")
        #expect(driver.pass(.seconds(60)) == (timeout == nil ? nil : .idle))
    }
}
