import ControlInterface
import LinuxSystem
import Synchronization
import TestSupport
import Varlink

/// Starts and stops what several clients do, so that nobody is under way while the host is looked at.
final class Gate: Sendable {
    private let state = Mutex((isOpen: false, isOver: false, busy: 0))

    /// - Returns: nil when all is over; false while the gate is shut.
    func enter() -> Bool? {
        state.withLock { state in
            if state.isOver { return nil }
            if state.isOpen { state.busy += 1 }
            return state.isOpen
        }
    }

    func leave() { state.withLock { $0.busy -= 1 } }

    func open() { state.withLock { $0.isOpen = true } }

    func end() {
        state.withLock {
            $0.isOpen = false
            $0.isOver = true
        }
    }

    /// Lets nobody in any more and waits for those who are.
    /// - Returns: false when somebody did not come out.
    func shut() -> Bool {
        state.withLock { $0.isOpen = false }
        return eventually { state.withLock { $0.busy == 0 } }
    }
}

/// One client with one TD of its own, which it creates, converts and stops at random, and knows what it was told.
final class LoadClient: Sendable {
    /// What a client was told, and what it asked for without hearing how it went.
    struct Belief: Sendable, CustomStringConvertible {
        enum Pending: Sendable, Hashable {
            case create, stop
            /// Blocks, from, count, and to shared.
            case convert(Range<Int>, toShared: Bool)
        }
        /// Of the TD that there is; nil for none.
        var id: String?
        var holderPID: Int32?
        var mrtd: String?
        /// Blocks that are shared.
        var shared: Set<Int> = []
        var pending: Pending?

        var description: String {
            "id \(id ?? "none"), pending \(pending.map { "\($0)" } ?? "nothing"), shared \(shared.sorted())"
        }
    }

    static let block: UInt64 = 1 << 20
    static let blocks = 32

    let name: String
    private let host: PrivateHost
    private let state: Mutex<(belief: Belief, random: SeededRandom, violations: [String], counts: [String: Int])>

    init(_ host: PrivateHost, name: String, seed: UInt64) {
        self.host = host
        self.name = name
        state = Mutex((Belief(), SeededRandom(seed: seed), [], [:]))
    }

    var belief: Belief {
        get { state.withLock { $0.belief } }
        set { state.withLock { $0.belief = newValue } }
    }
    /// Answers that no honest client should ever get.
    var violations: [String] { state.withLock { $0.violations } }
    /// How often what was answered.
    var counts: [String: Int] { state.withLock { $0.counts } }

    func run(_ gate: Gate) {
        while let isOpen = gate.enter() {
            guard isOpen else {
                CurrentThread.sleep(milliseconds: 1)
                continue
            }
            step()
            gate.leave()
        }
    }

    private func step() {
        var belief = belief
        // Somebody has to look at what a call without an answer came to first.
        guard belief.pending == nil else { return CurrentThread.sleep(milliseconds: 1) }
        let roll = state.withLock { Int.random(in: 0..<100, using: &$0.random) }
        if belief.id == nil {
            attempt("create", &belief, .create) { belief in
                let domain = try host.create(name, mebibytes: UInt64(Self.blocks))
                belief.id = domain.id
                belief.holderPID = domain.holderPID
                belief.mrtd = domain.mrtd
                belief.shared = []
            }
        } else if roll < 25 {
            attempt("stop", &belief, .stop) { belief in
                let certificate = try host.stop(name)
                if !certificate.complete { note("an incomplete certificate: \(certificate)") }
                belief = Belief()
            }
        } else {
            let (range, toShared) = state.withLock { state in
                let start = Int.random(in: 0..<Self.blocks, using: &state.random)
                let count = Int.random(in: 1...min(4, Self.blocks - start), using: &state.random)
                return (start..<(start + count), Bool.random(using: &state.random))
            }
            attempt("convert", &belief, .convert(range, toShared: toShared)) { belief in
                _ = try host.convert(
                    name, gpa: UInt64(range.lowerBound) * Self.block, bytes: UInt64(range.count) * Self.block,
                    to: toShared ? .shared : .private)
                if toShared { belief.shared.formUnion(range) } else { belief.shared.subtract(range) }
            }
        }
        self.belief = belief
    }

    private func attempt(
        _ what: String, _ belief: inout Belief, _ pending: Belief.Pending, _ body: (inout Belief) throws -> Void
    ) {
        var next = belief
        do {
            try body(&next)
            belief = next
            count(what)
        } catch let error as VarlinkClientError {
            switch error {
            case .unavailable: return CurrentThread.sleep(milliseconds: 2)
            case .reply(let reply): note("\(what) was refused: \(ControlError(reply))")
            // tdxd is gone, and whether the call arrived is not known.
            case .disconnected, .system: belief.pending = pending
            default: note("\(what): \(error)")
            }
        } catch {
            note("\(what): \(error)")
        }
    }

    private func note(_ text: String) { state.withLock { $0.violations.append("\(name): \(text)") } }
    private func count(_ what: String) { state.withLock { $0.counts[what, default: 0] += 1 } }
}
