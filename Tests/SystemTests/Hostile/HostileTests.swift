import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Synchronization
import Testing
import Varlink

/// Strangers who send what they like, for as long as they like: tdxd neither grows nor stops answering others.
///
/// TDXD_HOSTILE_MESSAGES messages (20,000 by itself, a million by scripts/test-hostile), from the seed TDXD_HOSTILE_SEED.
@Suite(.serialized) struct HostileTests {
    static let messages = Endurance.count("TDXD_HOSTILE_MESSAGES", standard: 20_000)
    static let attackers = 4
    /// By how much a tdxd may be larger once all have gone and it has given back what it freed, which takes some seconds. Beside
    /// the 8 MiB that it does not look for, that is room for fragments of pages.
    static let growthLimit = ByteCount.mebibytes(24)
    /// tdxd keeps up to two connections to a holder for the next call.
    static let keptConnections = 2

    /// A client that minds its own business meanwhile.
    private final class Neighbour: Sendable {
        private let isOver = Atomic(false)
        private let state = Mutex((answers: 0, longest: 0.0, failures: [String]()))
        private let threads = Mutex<[SystemThread]>([])

        var answers: Int { state.withLock { $0.answers } }
        var longest: Double { state.withLock { $0.longest } }
        var failures: [String] { state.withLock { $0.failures } }

        init(_ host: PrivateHost) throws {
            let kept = try host.client()
            let looking = try SystemThread(name: "neighbour") { [self] in
                goOn("list") {
                    let _: ManagerInterface.List.Reply = try kept.call(
                        ManagerInterface.List.method, timeout: .seconds(120))
                }
            }
            let changing = try SystemThread(name: "neighbour") { [self] in
                var side = MemorySide.shared
                goOn("convert") {
                    // A connection each time: where there are too many it is told so, and comes again.
                    let end = MonotonicInstant.now + .seconds(120)
                    while true {
                        do {
                            _ = try host.convert("web1", gpa: 0, bytes: 1 << 20, to: side)
                            break
                        } catch VarlinkClientError.reply(let reply) {
                            guard case .tryAgain = ControlError(reply), MonotonicInstant.now < end else {
                                throw VarlinkClientError.reply(reply)
                            }
                        } catch VarlinkClientError.disconnected where MonotonicInstant.now < end {
                            // Turned away before the call was sent.
                        }
                        usleep(5000)
                    }
                    side = side == .shared ? .private : .shared
                }
            }
            threads.withLock { $0 = [looking, changing] }
        }

        private func goOn(_ name: String, _ body: () throws -> Void) {
            while !isOver.load(ordering: .relaxed) {
                let start = MonotonicInstant.now
                do {
                    try body()
                    let taken = MonotonicInstant.now.milliseconds(since: start)
                    state.withLock { state in
                        state.answers += 1
                        state.longest = max(state.longest, taken)
                    }
                } catch {
                    state.withLock { $0.failures.append("\(name): \(error)") }
                    return
                }
                usleep(10_000)
            }
        }

        func leave() {
            isOver.store(true, ordering: .relaxed)
            for thread in threads.withLock({ $0 }) { thread.join() }
        }
    }

    @Test func `a flood of hostile messages leaves tdxd as it was and others served`() throws {
        let seed = Endurance.seed("TDXD_HOSTILE_SEED")
        Endurance.say("hostile: TDXD_HOSTILE_SEED=\(seed) TDXD_HOSTILE_MESSAGES=\(Self.messages)")
        let host = try PrivateHost(
            settings: """
                [limits]
                connections = 128
                connections_per_user = 100
                [deadlines]
                first_message = 2s
                client = 2s
                """)
        // A million lines of each refusal would be the test's own growth.
        _ = try host.create("web1")
        func attack(_ count: Int, _ seed: UInt64) -> HostileClient.Tally {
            let path = host.socket
            let tallies = inParallel(Self.attackers) { index in
                let client = HostileClient(path: path, seed: seed &+ UInt64(index))
                client.run(share: count / Self.attackers)
                return client.tally
            }
            return tallies.reduce(HostileClient.Tally()) { $0 + $1 }
        }
        // What a tdxd that serves everything needs once: buffers, threads' stacks, the decoder's tables.
        _ = attack(max(2000, Self.messages / 20), seed ^ 0xabcd)
        #expect(eventually { host.clientSockets <= 1 }, "\(host.log.suffix(2000))")
        let before = try ProcessMemory.of(pid: host.pid)
        let descriptors = host.descriptorCount

        let neighbour = try Neighbour(host)
        let tally = attack(Self.messages, seed)
        let answersMeanwhile = neighbour.answers
        neighbour.leave()
        #expect(eventually { host.clientSockets <= 1 }, "\(host.log.suffix(2000))")
        _ = try eventually(within: 60) {
            try ProcessMemory.of(pid: host.pid).resident <= before.resident + Self.growthLimit
        }
        let after = try ProcessMemory.of(pid: host.pid)
        Endurance.say(
            "hostile: \(tally.answered) messages answered, \(tally.unread) unread, \(tally.connections) connections, "
                + "\(tally.turnedAway) turned away; RSS \(before.resident) → \(after.resident), peak \(after.peakResident), "
                + "threads \(before.threads) → \(after.threads); the neighbour had \(answersMeanwhile) answers, "
                + "the slowest after \(Int(neighbour.longest)) ms")
        #expect(tally.answered >= Self.messages)
        // A server that is asked answers, whatever it is asked.
        #expect(tally.unanswered == 0, "seed \(seed)")
        #expect(neighbour.failures.isEmpty, "\(neighbour.failures)")
        #expect(answersMeanwhile > 0)
        #expect(after.resident <= before.resident + Self.growthLimit, "seed \(seed)")
        #expect(
            eventually(within: 30) { host.descriptorCount <= descriptors + Self.keptConnections },
            "\(host.descriptorCount), before \(descriptors)")
        // Nothing of it was carried out.
        #expect(try host.list().map(\.name) == ["web1"])
        #expect(try host.list().first?.state == .runnable)
        #expect(host.holders.count == 1)
        #expect(try host.stop("web1").complete)
        #expect(host.leavesNothing())
    }
}

extension PrivateHost {
    /// Descriptors that tdxd has open.
    var descriptorCount: Int { ((try? TextFile.list("/proc/\(pid)/fd")) ?? []).count }

    /// Clients that tdxd holds: with their sockets it holds their processes.
    var clientSockets: Int {
        let names = (try? TextFile.list("/proc/\(pid)/fd")) ?? []
        return names.count { name in
            (try? TextFile.read("/proc/\(pid)/fdinfo/\(name)"))?.contains("\nPid:\t\(getpid())\n") == true
        }
    }
}
