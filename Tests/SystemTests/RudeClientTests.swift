import ControlInterface
import FoundationEssentials
import LinuxSystem
import SystemPackage
import Testing
import Varlink

/// Clients that do not behave: each gets an error or a time-out, and the next is served meanwhile.
@Suite(.serialized) struct RudeClientTests {
    static let settings = "[deadlines]\nfirst_message = 500ms\nclient = 500ms"

    /// A connection below the protocol.
    final class Raw: Sendable {
        let socket: RetainedDescriptor

        init(_ host: PrivateHost) throws { socket = RetainedDescriptor(try UnixSocket.connect(to: host.socket)) }

        /// Sends until everything is sent or the other side is gone.
        func send(_ bytes: [UInt8]) {
            var rest = bytes[...]
            _ = eventually {
                guard !rest.isEmpty else { return true }
                do throws(LinuxError) {
                    guard case .bytes(let count) = try UnixSocket.send(rest, on: socket.descriptor) else {
                        return false
                    }
                    rest = rest.dropFirst(count)
                    return rest.isEmpty
                } catch {
                    return true
                }
            }
        }

        /// What comes up to the end of a message.
        func readMessage() -> String { String(decoding: read { $0.last == 0 }.dropLast(), as: UTF8.self) }

        /// Everything that comes until the other side closes.
        func readToEnd() -> String { String(decoding: read { _ in false }, as: UTF8.self) }

        /// What comes until it is enough, or the other side closes.
        func read(until isEnough: ([UInt8]) -> Bool) -> [UInt8] {
            var all: [UInt8] = []
            _ = eventually {
                do throws(LinuxError) {
                    switch try UnixSocket.receive(upTo: 1 << 16, from: socket.descriptor) {
                    case .bytes(let bytes, _):
                        all += bytes
                        return isEnough(all)
                    case .wouldBlock: return false
                    case .endOfStream: return true
                    }
                } catch {
                    return true
                }
            }
            return all
        }
    }

    @Test func `a client that says nothing is let go, and others are served meanwhile`() throws {
        let host = try PrivateHost(settings: Self.settings)
        let silent = try Raw(host)
        #expect(try host.list().isEmpty)
        #expect(silent.readToEnd().isEmpty)
        #expect(try host.list().isEmpty)
    }

    @Test func `a message that never ends is refused at its limit`() throws {
        let host = try PrivateHost()
        let client = try Raw(host)
        client.send([UInt8](repeating: UInt8(ascii: "a"), count: 2 << 20))
        let answer = client.readToEnd()
        #expect(answer.contains("InvalidField") && answer.contains("message"), "\(answer)")
        #expect(try host.list().isEmpty)
    }

    @Test(arguments: [
        "{", "[]", "null", "{\"method\":1}", "{\"parameters\":{}}", "{\"method\":\"io.tdxd.Manager.List\"",
        String(repeating: "[", count: 10_000), "\u{7f}ELF",
    ])
    func `malformed JSON is refused`(text: String) throws {
        let host = try PrivateHost()
        let client = try Raw(host)
        client.send(Array(text.utf8) + [0])
        let answer = client.readToEnd()
        #expect(answer.contains("error"), "\(answer)")
        #expect(try host.list().isEmpty)
    }

    @Test func `a client that stops reading is let go, and does not hold up a stop`() throws {
        let host = try PrivateHost(settings: Self.settings)
        _ = try host.create("web1")
        let stuck = try Raw(host)
        let call =
            Array(
                #"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.tdxd.Manager"}}"#
                    .utf8) + [0]
        // More answers than fit into the socket.
        for _ in 0..<400 {
            guard case .bytes? = try? UnixSocket.send(call[...], on: stuck.socket.descriptor) else { break }
        }
        #expect(try host.stop("web1").complete)
        #expect(eventually { host.log.contains("stalled") }, "\(host.log)")
        #expect(try host.list().isEmpty)
    }

    @Test func `a client that leaves in the middle of a create leaves a whole TD`() throws {
        let host = try PrivateHost()
        do {
            let client = try Raw(host)
            let call =
                #"{"method":"io.tdxd.Manager.Create","parameters":{"name":"web1","memory_bytes":67108864,"vcpus":1}}"#
            client.send(Array(call.utf8) + [0])
        }
        #expect(try eventually { try host.list().first?.state == .runnable }, "\(host.log)")
        #expect(try host.stop("web1").complete)
    }

    @Test func `many clients at once are all answered`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let answers = inParallel(24) { _ -> Int in
            (0..<10).count { _ in (try? host.list().count) == 1 }
        }
        #expect(answers == Array(repeating: 10, count: 24))
    }

    @Test func `one user's connections are limited, with an answer that says so`() throws {
        let host = try PrivateHost(settings: "[limits]\nconnections_per_user = 4")
        var held: [Raw] = []
        // The connections of this test's start may still count for a moment: only who is answered is in.
        let isFull = try eventually {
            let client = try Raw(host)
            client.send(Array(#"{"method":"org.varlink.service.GetInfo"}"#.utf8) + [0])
            if client.readMessage().contains("interfaces") { held.append(client) }
            return held.count == 4
        }
        #expect(isFull)
        try withExtendedLifetime(held) {
            let answer = try Raw(host).readToEnd()
            #expect(answer.contains("TryAgain"), "\(answer)")
        }
        held = []
        #expect(eventually { (try? host.list()) != nil })
    }
}
