import Glibc
import LinuxSystem
import TestSupport

/// One attacker: opens connections, each in a manner of its own, until its share of messages has been answered.
final class HostileClient {
    /// How a connection is used.
    private enum Manner {
        /// Sends messages in batches and reads every answer.
        case asking
        /// Asks for long answers and reads none.
        case deaf
        /// Leaves with half a message sent.
        case halving
        /// Connects and says nothing.
        case silent
        /// One message that never ends.
        case endless
        /// Passes descriptors that nobody asked for.
        case giving
    }

    struct Tally: Sendable {
        /// Messages that were answered, and those that ended their connection.
        var answered = 0
        /// Messages that were sent and whose answers nobody read.
        var unread = 0
        var connections = 0
        var turnedAway = 0
        /// Waits of half a minute for an answer that never came.
        var unanswered = 0

        static func + (a: Self, b: Self) -> Self {
            Self(
                answered: a.answered + b.answered, unread: a.unread + b.unread,
                connections: a.connections + b.connections, turnedAway: a.turnedAway + b.turnedAway,
                unanswered: a.unanswered + b.unanswered)
        }
    }

    /// Most connections that one attacker leaves open.
    static let leftOpen = 6

    private let path: String
    private var random: SeededRandom
    private var messages: HostileMessages
    private var left: [RetainedDescriptor] = []
    private(set) var tally = Tally()

    init(path: String, seed: UInt64) {
        self.path = path
        random = SeededRandom(seed: seed)
        messages = HostileMessages(seed: seed ^ 0xffff)
    }

    /// - Parameter share: answered messages after which it leaves; every connection is closed then.
    func run(share: Int) {
        while tally.answered < share {
            guard let socket = connect() else { continue }
            tally.connections += 1
            switch manner() {
            case .asking: ask(socket, batches: 1 + Int.random(in: 0..<40, using: &random))
            case .deaf: beDeaf(socket)
            case .halving:
                _ = exchange(Array(messages.next().bytes.dropLast(2)), answers: 0, on: socket)
                leave(socket)
            case .silent: leave(socket)
            case .endless:
                _ = exchange([UInt8](repeating: UInt8(ascii: "{"), count: 3 << 19), answers: 1, on: socket)
            case .giving: give(socket)
            }
        }
        left = []
    }

    private func manner() -> Manner {
        switch Int.random(in: 0..<200, using: &random) {
        case 0: .deaf
        case 1..<4: .halving
        case 4..<7: .silent
        case 7: .endless
        case 8..<12: .giving
        default: .asking
        }
    }

    private func connect() -> RetainedDescriptor? {
        guard let socket = try? UnixSocket.connect(to: path) else {
            usleep(2000)
            return nil
        }
        return RetainedDescriptor(socket)
    }

    private func leave(_ socket: RetainedDescriptor) {
        left.append(socket)
        if left.count > Self.leftOpen { left.removeFirst() }
    }

    private func ask(_ socket: RetainedDescriptor, batches: Int) {
        for _ in 0..<batches {
            let count = 1 + Int.random(in: 0..<32, using: &random)
            var batch: [UInt8] = []
            var answers = 0
            for _ in 0..<count {
                let message = messages.next()
                batch += message.bytes
                if message.isAnswered { answers += 1 } else { tally.unread += 1 }
            }
            guard exchange(batch, answers: answers, on: socket) else { return }
        }
    }

    /// Sends all and reads that many answers, whichever can go on: a side that only sends would stop the other.
    /// - Returns: false when the server ended the connection, as it does behind a message that it cannot follow.
    private func exchange(_ bytes: [UInt8], answers: Int, on socket: RetainedDescriptor) -> Bool {
        var rest = bytes[...]
        var missing = answers
        while !rest.isEmpty || missing > 0 {
            var entry = pollfd(
                fd: socket.rawValue, events: Int16(rest.isEmpty ? POLLIN : POLLIN | POLLOUT), revents: 0)
            guard poll(&entry, 1, 30_000) > 0 else {
                tally.unanswered += 1
                return false
            }
            if entry.revents & Int16(POLLIN | POLLHUP) != 0 {
                guard let received = try? UnixSocket.receive(upTo: 1 << 16, from: socket.descriptor) else {
                    return false
                }
                switch received {
                case .bytes(let bytes, _):
                    let ends = bytes.count { $0 == 0 }
                    if bytes.starts(with: Self.crowded) { tally.turnedAway += 1 } else { tally.answered += ends }
                    missing -= ends
                case .wouldBlock: break
                case .endOfStream: return false
                }
            }
            if !rest.isEmpty, entry.revents & Int16(POLLOUT) != 0 {
                guard let sent = try? UnixSocket.send(rest, on: socket.descriptor) else { return false }
                if case .bytes(let count) = sent { rest = rest.dropFirst(count) }
            }
        }
        return true
    }

    private static let crowded = Array(#"{"error":"io.tdxd.Manager.TryAgain""#.utf8)

    private func beDeaf(_ socket: RetainedDescriptor) {
        let call =
            Array(
                #"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.tdxd.Manager"}}"#
                    .utf8) + [0]
        for _ in 0..<2000 {
            guard case .bytes(call.count)? = try? UnixSocket.send(call[...], on: socket.descriptor) else { break }
            tally.unread += 1
        }
        leave(socket)
    }

    private func give(_ socket: RetainedDescriptor) {
        let message = messages.next()
        let count = [1, 16, 17, 253].randomElement(using: &random)!
        let given = [Int32](repeating: socket.rawValue, count: count)
        _ = try? UnixSocket.send(message.bytes[...], descriptors: given, on: socket.descriptor)
        _ = exchange([], answers: message.isAnswered ? 1 : 0, on: socket)
    }
}
