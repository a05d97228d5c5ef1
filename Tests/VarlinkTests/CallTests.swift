import Glibc
import LinuxSystem
import SystemPackage
import Testing

@testable import Varlink

@Suite struct `Calls over a socket` {
    @Test func `a call is answered with its own parameters`() throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        for text in ["", "hällo", String(repeating: "x", count: 300_000)] {
            #expect(try client.call("io.example.Echo.Echo", Echo(text: text), as: Echo.self) == Echo(text: text))
        }
    }

    @Test func `more brings every reply in order and marks the last`() throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        var seen: [(Int, Bool)] = []
        try client.callMore("io.example.Echo.Count", Count(to: 1000), as: Number.self) { seen.append(($0.number, $1)) }
        #expect(seen.map(\.0) == Array(1...1000))
        #expect(seen.map(\.1) == Array(repeating: false, count: 999) + [true])
    }

    @Test func `a caller without more gets the last reply alone`() throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        #expect(try client.call("io.example.Echo.Count", Count(to: 5), as: Number.self).number == 5)
        #expect(try client.call("io.example.Echo.Echo", Echo(text: "next"), as: Echo.self).text == "next")
    }

    @Test func `an error carries its name and parameters`() throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        let error = #expect(throws: VarlinkClientError.self) {
            try client.call("io.example.Echo.Fail", as: NoParameters.self)
        }
        guard case .reply(let reply) = try #require(error) else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reply.name == "io.example.Echo.Broken")
        #expect(try reply.parameters(as: [String: Pair].self)["pair"] == Pair(left: "a", right: 7))
        // The connection is still good.
        #expect(try client.call("io.example.Echo.Echo", Echo(text: "x"), as: Echo.self).text == "x")
    }

    @Test func `descriptors travel both ways and stay in order`() throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        let files = ["one ", "two ", "three"].map { RetainedDescriptor(temporaryFile($0)) }
        let text = try withExtendedLifetime(files) {
            try client.call("io.example.Echo.ReadFile", as: Echo.self, descriptors: files.map(\.rawValue)).text
        }
        #expect(text == "one two three")
        let opened = try client.callWithDescriptors(
            "io.example.Echo.OpenFiles", ["texts": ["a", "b"]], as: [String: Int].self)
        #expect(opened.reply == ["count": 2])
        var texts: [String] = []
        while let file = opened.descriptors.takeFirst() {
            #expect(fcntl(file.rawValue, F_GETFD) & FD_CLOEXEC != 0)
            texts.append(readAll(file))
        }
        #expect(texts == ["a", "b"])
    }

    @Test func `the peer is known by the kernel's word`() throws {
        struct Who: Decodable {
            var uid: UInt32
            var pid: Int32
        }
        let fixture = try ServerFixture()
        let who = try fixture.client().call("io.example.Echo.Who", as: Who.self)
        #expect(who.uid == getuid())
        #expect(who.pid == getpid())
    }

    @Test func `nobody listening is told apart from everything else`() throws {
        let directory = TemporaryDirectory()
        let error = #expect(throws: VarlinkClientError.self) { try VarlinkClient.connect(directory.path + "/none") }
        guard case .unavailable(let path, let cause)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(path == directory.path + "/none")
        #expect(cause.errno == .noSuchFileOrDirectory)
    }

    @Test func `a silent server costs the caller its timeout and no more`() throws {
        let fixture = try ServerFixture()
        let client = try fixture.client()
        let error = #expect(throws: VarlinkClientError.self) {
            try client.call("io.example.Echo.Hold", as: NoParameters.self, timeout: .milliseconds(50))
        }
        guard case .timedOut(.milliseconds(50))? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let second = #expect(throws: VarlinkClientError.self) {
            try client.call("io.example.Echo.Echo", Echo(text: "late"), as: Echo.self)
        }
        guard case .disconnected? = second else {
            Issue.record("\(String(describing: second))")
            return
        }
    }
}
