import LinuxSystem
import Testing

@testable import Varlink

/// An event loop of its own that makes calls; what each came to, in order.
private final class Caller: Sendable {
    let loop: EventLoop
    /// Apart, so that a call that has not ended keeps them alone, and never the thread that it runs on.
    private let written = ServerFixture.Written<[String]>([])
    private let thread: SystemThread

    init() throws {
        loop = try EventLoop()
        let loop = loop
        thread = try SystemThread(name: "caller") { loop.run() }
    }

    deinit {
        loop.stop()
        thread.join()
    }

    func echo(_ text: String, over client: VarlinkClient) {
        call("Echo", Echo(text: text), Echo.self, over: client) { $0.text }
    }

    func call<Reply: Decodable & Sendable>(
        _ method: String, _ parameters: some Encodable & Sendable, _ type: Reply.Type, over client: VarlinkClient,
        timeout: Duration = .seconds(120), _ words: @escaping @Sendable (Reply) -> String
    ) {
        loop.perform { [loop, written] in
            let isSent = client.call(
                "io.example.Echo.\(method)", parameters, as: type, timeout: timeout, on: loop
            ) { result in
                let text =
                    switch result {
                    case .success(let reply): words(reply)
                    case .failure(.reply(let error)): error.name
                    case .failure(.timedOut): "timed out"
                    case .failure(.disconnected): "disconnected"
                    case .failure(let error): "\(error)"
                    }
                written.withLock { $0.append(text) }
            }
            if !isSent { written.withLock { $0.append("not sent") } }
        }
    }

    /// Notes each reply by its number, and the last one once more.
    func count(to number: Int, over client: VarlinkClient) {
        loop.perform { [loop, written] in
            let isSent = client.callMore(
                "io.example.Echo.Count", Count(to: number), as: Number.self, timeout: .seconds(120), on: loop,
                onStep: { step in written.withLock { $0.append("\(step.number)") } }
            ) { result in
                written.withLock { $0.append((try? result.get()).map { "last \($0.number)" } ?? "\(result)") }
            }
            if !isSent { written.withLock { $0.append("not sent") } }
        }
    }

    /// Waits until so many calls have come to something.
    func results(_ count: Int) throws -> [String] {
        let deadline = MonotonicInstant.now + .seconds(120)
        while written.withLock({ $0.count }) < count {
            try #require(MonotonicInstant.now < deadline, "a call has not ended within 120 s")
            try SystemThread(name: "pause") {}.join()
        }
        return written.withLock { $0 }
    }
}

@Suite struct `Calls that an event loop waits for` {
    @Test func `a reply comes to the loop, in one piece or many, and the connection serves the next call`() throws {
        let fixture = try ServerFixture()
        let caller = try Caller()
        let client = try fixture.client()
        let long = String(repeating: "x", count: 100_000)
        caller.echo("one", over: client)
        #expect(try caller.results(1) == ["one"])
        caller.echo(long, over: client)
        #expect(try caller.results(2).last == long)
        #expect(try client.call("io.example.Echo.Echo", Echo(text: "blocking"), as: Echo.self).text == "blocking")
    }

    @Test func `a call with many replies brings each in its order, and the connection serves the next call`() throws {
        let fixture = try ServerFixture()
        let caller = try Caller()
        let client = try fixture.client()
        caller.count(to: 200, over: client)
        let found = try caller.results(200)
        #expect(found.dropLast() == (1..<200).map { "\($0)" }[...] && found.last == "last 200", "\(found.suffix(3))")
        caller.echo("next", over: client)
        #expect(try caller.results(201).last == "next")
    }

    @Test func `an error reply is an answer, and the connection stays good`() throws {
        let fixture = try ServerFixture()
        let caller = try Caller()
        let client = try fixture.client()
        caller.call("Fail", NoParameters(), NoParameters.self, over: client) { _ in "no error" }
        #expect(try caller.results(1) == ["io.example.Echo.Broken"])
        caller.echo("next", over: client)
        #expect(try caller.results(2).last == "next")
    }

    @Test func `a server that is silent does not keep the loop from other calls, and costs its caller the timeout`()
        throws
    {
        let fixture = try ServerFixture()
        let caller = try Caller()
        let (silent, other) = (try fixture.client(), try fixture.client())
        caller.call("Hold", NoParameters(), NoParameters.self, over: silent) { _ in "answered" }
        caller.echo("meanwhile", over: other)
        #expect(try caller.results(1) == ["meanwhile"])
        let second = try fixture.client()
        caller.call("Hold", NoParameters(), NoParameters.self, over: second, timeout: .milliseconds(20)) { _ in
            "answered"
        }
        #expect(try caller.results(2).last == "timed out")
        // What comes later could belong to the former call.
        caller.echo("late", over: second)
        #expect(try caller.results(3).last == "not sent")
        try #require(fixture.held.withLock { $0.first }).reply(NoParameters())
        #expect(try caller.results(4).last == "answered")
    }

    @Test func `a server that goes away ends the call at once`() throws {
        let fixture = try ServerFixture()
        let caller = try Caller()
        let client = try fixture.client()
        caller.call("Abandon", NoParameters(), NoParameters.self, over: client) { _ in "answered" }
        #expect(try caller.results(1) == ["disconnected"])
        caller.echo("again", over: client)
        #expect(try caller.results(2).last == "not sent")
    }

    @Test func `a call that the socket does not take at once is not made`() throws {
        let fixture = try ServerFixture()
        let caller = try Caller()
        // More than a socket's buffer: the server has a part of it, which is no call.
        caller.echo(String(repeating: "x", count: 8 << 20), over: try fixture.client())
        #expect(try caller.results(1) == ["not sent"])
        caller.echo("small", over: try fixture.client())
        #expect(try caller.results(2).last == "small")
        #expect(fixture.echoed.withLock { $0 } == ["small"])
    }
}
