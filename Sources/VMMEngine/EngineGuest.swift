internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import TDXEmulator
internal import VMMTerms

/// The guest of an engine's TDs: a behaviour by name, or a script; and what it reports.
final class EngineGuest: GuestAgent {
    let name: String
    private let program: EngineConfiguration.Guest
    private let state = Mutex(State())
    /// Called once the guest's program has ended on the vCPUs that have one, with whether it went as it should.
    private let whenEnded = Mutex<(@Sendable () -> Void)?>(nil)

    private struct State {
        var lines: [String] = []
        var failures: [String] = []
        var notKept = 0
        var steps: UInt64 = 0
        /// vCPUs whose program runs, of the present TD.
        var running: Set<UInt32> = []
        var started: Set<UInt32> = []
        var finished: Set<UInt32> = []
        var resets = 0
        var tables: GuestPageTables?
        var hasEnded = false
    }

    private static let maximumLines = 1000

    init(_ program: EngineConfiguration.Guest) {
        self.program = program
        switch program {
        case .behaviour(let behaviour): name = behaviour.rawValue
        case .script(_, let name): self.name = name
        }
    }

    func onEnd(_ body: @escaping @Sendable () -> Void) { whenEnded.withLock { $0 = body } }

    /// A TD can be entered from now on: a guest begins anew.
    func machineIsRunnable(_ generation: Int) {
        state.withLock { state in
            state.running = []
            state.started = []
            state.finished = []
            state.tables = GuestPageTables()
        }
    }

    /// vCPUs whose programs decide when the guest has ended.
    private var processorsWithProgram: Set<UInt32> {
        switch program {
        case .behaviour: [0]
        case .script(let script, _): Set(script.steps.keys)
        }
    }

    func run(on processor: GuestProcessor) throws(GuestFault) {
        let tables = state.withLock { state in
            state.running.insert(processor.id)
            state.started.insert(processor.id)
            return state.tables ?? GuestPageTables()
        }
        let runner = GuestRunner(processor, tables: tables, guest: self)
        do throws(GuestFault) {
            // A guest that was never entered begins only to be stopped: that is not its program's end.
            try processor.pause()
            switch program {
            case .behaviour(let behaviour): try runner.run(behaviour)
            case .script(let script, _): try runner.run(script.steps[processor.id] ?? [])
            }
        } catch {
            if error != .stopped { fail("vCPU \(processor.id): \(error.words)") }
            state.withLock { _ = $0.running.remove(processor.id) }
            if error == .stopped { throw error }
        }
        let needed = processorsWithProgram
        let isLast = state.withLock { state in
            state.running.remove(processor.id)
            state.finished.insert(processor.id)
            guard !state.hasEnded, needed.isSubset(of: state.finished) else { return false }
            state.hasEnded = true
            return true
        }
        if isLast, let body = whenEnded.withLock({ $0 }) { body() }
    }

    // MARK: The report

    func say(_ text: String) { keep(text) { $0.lines.append(text) } }
    func fail(_ text: String) {
        keep(text) {
            $0.failures.append(text)
            $0.lines.append("FAILED: " + text)
        }
    }
    func count(steps: UInt64 = 1) { state.withLock { $0.steps &+= steps } }
    /// How often the guest has asked for a reset before.
    func nextReset() -> Int {
        state.withLock { state in
            state.resets += 1
            return state.resets - 1
        }
    }

    private func keep(_ text: String, _ body: (inout State) -> Void) {
        state.withLock { state in
            guard state.lines.count < Self.maximumLines else {
                state.notKept += 1
                return
            }
            body(&state)
        }
    }

    var report: EngineReport.Guest {
        let needed = processorsWithProgram
        return state.withLock { state in
            let progress =
                if state.hasEnded { "finished" } else if state.started.isDisjoint(with: needed) { "not started" } else {
                    "running"
                }
            return EngineReport.Guest(
                name: name, state: progress, steps: state.steps, failures: state.failures, lines: state.lines,
                linesNotKept: state.notKept)
        }
    }
}

extension GuestFault {
    var words: String {
        switch self {
        case .stopped: "the VM is gone"
        case .virtualizationException(let address): "#VE at \(address): the page was not accepted"
        case .pageFault(let address): "#PF at 0x\(String(address.rawValue, radix: 16))"
        }
    }
}
