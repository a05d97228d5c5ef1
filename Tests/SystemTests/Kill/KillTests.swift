import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import TestSupport
import Testing
import Varlink

/// tdxd is killed at random moments while clients create, convert and stop TDs: the next one has every TD, whole.
///
/// TDXD_KILLS kills for each backend (6 by itself, 500 by scripts/test-kill), from the seed TDXD_KILL_SEED.
@Suite(.serialized) struct KillTests {
    static let kills = Endurance.count("TDXD_KILLS", standard: 6)
    static let clients = 4

    @Test(arguments: MainJobTests.backends)
    func `a tdxd that is killed at any moment loses no TD and leaves nothing half done`(backend: String) throws {
        let seed = Endurance.seed("TDXD_KILL_SEED")
        Endurance.say("kill: TDXD_KILL_SEED=\(seed) TDXD_KILLS=\(Self.kills), backend \(backend)")
        var random = SeededRandom(seed: seed)
        // As many key ids as TDs: one that is lost is missed at once.
        let host = try PrivateHost(backend: backend, settings: "emulated_key_ids = \(Self.clients)")
        let clients = (0..<Self.clients).map {
            LoadClient(host, name: "td\($0)", seed: seed &+ UInt64($0) &+ 1)
        }
        let gate = Gate()
        let threads = try clients.map { client in
            try SystemThread(name: client.name) { client.run(gate) }
        }
        defer {
            gate.end()
            for thread in threads { thread.join() }
        }
        let invariants = KillInvariants(host: host, clients: clients)
        // However slow the machine is, somebody has been served before the first kill.
        gate.open()
        try #require(eventually { clients.contains { $0.counts["create"] != nil } }, "\(host.log.suffix(4000))")

        for round in 1...Self.kills {
            gate.open()
            // Half of them soon, when each client has its first call under way.
            let moment = UInt32.random(in: 0...(Bool.random(using: &random) ? 300_000 : 2_000_000), using: &random)
            usleep(moment)
            host.kill(.kill)
            try #require(gate.shut(), "a client hangs: \(host.log.suffix(4000))")
            // One in four is killed again while it adopts.
            var early: UInt32?
            if Int.random(in: 0..<4, using: &random) == 0 {
                let pause = UInt32.random(in: 0...60_000, using: &random)
                early = pause
                try host.startWithoutWaiting()
                usleep(pause)
                host.kill(.kill)
            }
            try host.start()
            let flaws = try invariants.settle() + clients.flatMap(\.violations)
            try #require(
                flaws.isEmpty,
                """
                seed \(seed), round \(round), killed after \(moment) µs\(early.map { " and again \($0) µs after its start" } ?? ""):
                \(flaws.joined(separator: "\n"))
                \(host.log.suffix(6000))
                """)
        }
        for client in clients where client.belief.id != nil { #expect(try host.stop(client.name).complete) }
        #expect(host.leavesNothing(), "\(host.holders) \(host.holderDirectories)")
        let counts = clients.reduce(into: [:]) { all, client in all.merge(client.counts, uniquingKeysWith: +) }
        Endurance.say("kill: \(Self.kills) kills survived on \(backend); answered meanwhile: \(counts)")
    }
}
