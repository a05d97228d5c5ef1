@testable import DomainEnd

/// Everything that the end of one TD depends on, as small as it can be: tdxd with the machine in it, what is on disk, the holder's
/// process, the memory, the key id, and what is under way between them.
///
/// What the holder meets in its end (`Kept`) is known from the moment at which it is durable, or at which a living tdxd has heard of
/// it: a holder that is killed before it can tell anyone takes its knowledge along.
struct EndWorld: Hashable {
    enum Holder: Hashable {
        case building, runnable, stopping, halted, releasing, withheld, leaving
        case gone(inOrder: Bool)

        var isGone: Bool { if case .gone = self { true } else { false } }
    }

    /// What is under way and will bring an event.
    struct Jobs: OptionSet, Hashable {
        let rawValue: UInt16
        static let halt = Self(rawValue: 1)
        static let haltTaken = Self(rawValue: 1 << 1)
        static let release = Self(rawValue: 1 << 2)
        static let releaseTaken = Self(rawValue: 1 << 3)
        static let progress = Self(rawValue: 1 << 4)
        static let askTimer = Self(rawValue: 1 << 5)
        static let exitTimer = Self(rawValue: 1 << 6)
        static let read = Self(rawValue: 1 << 7)
        static let memory = Self(rawValue: 1 << 8)
        static let look = Self(rawValue: 1 << 9)
        static let lookTimer = Self(rawValue: 1 << 10)
        static let certificate = Self(rawValue: 1 << 11)
        static let certificateTold = Self(rawValue: 1 << 12)
        static let fetch = Self(rawValue: 1 << 13)
    }

    /// Nil while no tdxd runs.
    var machine: EndMachine?
    /// Actions that tdxd has decided on and not done yet.
    var queue: [EndAction] = []
    var jobs: Jobs = []
    /// Of the certificate that is being written.
    var verdict: Verdict?
    /// This tdxd knows that the TD was built.
    var knowsBuilt = false

    // On disk.
    var note = EndNote()
    var isBuilt = false
    var hasRecord = true
    var certificate = Found.Certificate.none
    /// What the holder has written down of its end.
    var holderRecord: Kept?

    var holder = Holder.building
    /// What the holder's process knows and has told no one.
    var holderKept: Kept = []
    let isAttached: Bool
    /// A service manager keeps copies of the duplicates while no tdxd runs.
    let hasStore: Bool
    var hasDuplicates = false
    /// tdxd has counted what was in the duplicates.
    var isCounted = false
    var isKeyTaken = true
    /// Another TD was given the key id.
    var isKeyAnothers = false
    /// Nothing of the TD is left, and it is not listed any more.
    var isForgotten = false

    init(isAttached: Bool, hasStore: Bool) {
        self.isAttached = isAttached
        self.hasStore = hasStore
        machine = EndMachine(isAttached: isAttached)
    }

    /// What anybody who is left knows that no other TD may get.
    var known: Kept { (machine?.kept ?? []).union(hasRecord ? note.kept : []).union(holderRecord ?? []) }

    /// Nothing happens any more that must happen.
    var isSettled: Bool {
        isForgotten || machine.map { [.quarantined, .failed].contains($0.stage) && queue.isEmpty } ?? false
    }
}

/// What is done to the machine beside what it says: faults that the exploration must find.
struct Mutation: Sendable {
    var name: String
    /// Changes an event on its way in.
    var event: @Sendable (EndEvent) -> EndEvent = { $0 }
    /// Changes the machine after it has handled an event.
    var machine: @Sendable (inout EndMachine) -> Void = { _ in }
    /// Changes the actions on their way out.
    var actions: @Sendable ([EndAction]) -> [EndAction] = { $0 }

    static let none = Mutation(name: "none")

    init(name: String) { self.name = name }

    init(name: String, event: @escaping @Sendable (EndEvent) -> EndEvent) {
        self.name = name
        self.event = event
    }

    init(name: String, machine: @escaping @Sendable (inout EndMachine) -> Void) {
        self.name = name
        self.machine = machine
    }

    init(name: String, actions: @escaping @Sendable ([EndAction]) -> [EndAction]) {
        self.name = name
        self.actions = actions
    }
}

struct Step {
    var text: String
    var world: EndWorld
    /// What must never be so.
    var violation: String?
}

/// Every next step of a world.
struct EndRules {
    var mutation = Mutation.none
    static let keeps: [Kept] = [[], [.key], [.key, .memory]]

    func steps(from world: EndWorld) -> [Step] {
        guard !world.isForgotten else { return [] }
        var steps: [Step] = []
        if world.machine == nil {
            steps.append(contentsOf: start(world))
        } else {
            steps.append(contentsOf: work(world) + clients(world) + answers(world) + own(world))
            var dead = world
            dead.machine = nil
            dead.queue = []
            dead.jobs = []
            dead.verdict = nil
            dead.isCounted = false
            dead.knowsBuilt = false
            if !world.hasStore { dead.hasDuplicates = false }
            steps.append(Step(text: "tdxd is killed", world: dead))
        }
        steps.append(contentsOf: holder(world))
        return steps
    }

    // MARK: tdxd

    private func start(_ world: EndWorld) -> [Step] {
        guard world.hasRecord else {
            var after = world
            after.isForgotten = true
            return [Step(text: "tdxd starts and finds nothing of the TD", world: after)]
        }
        let found: [Found.Holder] =
            switch world.holder {
            case .building: [.building]
            case .gone(let inOrder): [.gone(inOrder: inOrder)]
            default: [.alive(says: Self.progress(world.holder)), .alive(says: nil)]
            }
        return found.map { holder in
            var after = world
            let (machine, actions) = EndMachine.adopting(
                world.note,
                Found(holder, certificate: world.certificate, isBuilt: world.isBuilt, isAttached: world.isAttached))
            after.machine = machine
            after.queue = actions
            after.isKeyTaken = true
            after.knowsBuilt = world.isBuilt
            if case .alive(says: .some) = holder { after.knowsBuilt = true }
            return Step(
                text: "tdxd starts and finds the holder \(holder)", world: after,
                violation: world.isKeyAnothers ? "two TDs have one key id" : check(after))
        }
    }

    private func apply(_ happened: EndEvent, _ world: EndWorld, _ text: String) -> Step {
        var after = world
        guard var machine = world.machine else { return Step(text: text, world: after) }
        let event = mutation.event(happened)
        let before = machine
        let actions = mutation.actions(machine.handle(event))
        mutation.machine(&machine)
        after.machine = machine
        after.queue += actions.filter { ![.refuse, .answerKnown, .join, .answerHalted, .answerRefused].contains($0) }
        var violation = check(after)
        if !before.kept.isSubset(of: machine.kept) { violation = "what is kept was forgotten" }
        if actions.contains(.killHolder) {
            switch happened {
            case .silentTooLong, .exitOverdue, .failed(.invalid): break
            default: violation = "a holder is killed because of “\(happened)”"
            }
        }
        return Step(text: text, world: after, violation: violation)
    }

    /// What holds in every state.
    private func check(_ world: EndWorld) -> String? {
        guard let machine = world.machine else { return nil }
        if machine.holderIsGone, !world.holder.isGone { return "a living holder is taken for dead" }
        if machine.isMoving, world.queue.isEmpty, world.jobs.isEmpty, !(world.holder.isGone && !machine.holderIsGone) {
            return "nothing is under way in the stage “\(machine.stage)”"
        }
        if machine.stage == .open, world.queue.isEmpty, !world.jobs.contains(.lookTimer) {
            return "an open end is not looked at again"
        }
        return nil
    }

    /// The first action of the queue is done.
    private func work(_ world: EndWorld) -> [Step] {
        guard let action = world.queue.first, let machine = world.machine else { return [] }
        var after = world
        after.queue.removeFirst()
        var violation: String?
        switch action {
        case .refuse, .answerKnown, .join, .answerHalted, .answerRefused, .holdKey, .useKey: break
        case .writeRecord:
            if !world.note.kept.isSubset(of: machine.note.kept) { violation = "a record forgets what is kept" }
            guard world.hasRecord else { break }
            after.note = machine.note
            if world.knowsBuilt { after.isBuilt = true }
        case .removeRecord:
            if !world.known.isEmpty { violation = "the record of a TD that keeps something is removed" }
            after.hasRecord = false
            after.holderRecord = nil
        case .giveKeyBack:
            if !world.isKeyTaken { violation = "a key id is given back twice" }
            if !world.known.isEmpty { violation = "a key id that may be in use is given back" }
            if !world.holder.isGone || world.hasDuplicates {
                violation = "a key id is given back whose VM is still there"
            }
            if world.isBuilt, world.certificate == .none { violation = "a key id is given back without a certificate" }
            after.isKeyTaken = false
        case .writeCertificate(let verdict):
            after.verdict = verdict
            after.jobs.insert(.certificate)
        case .askHolderToHalt:
            after.jobs.insert(.halt)
            after.jobs.remove(.haltTaken)
        case .askHolderForMemory:
            after.jobs.insert(.release)
            after.jobs.remove(.releaseTaken)
        case .askHolderForProgress: after.jobs.insert(.progress)
        case .askAgainLater: after.jobs.insert(.askTimer)
        case .fetchDuplicates: after.jobs.insert(.fetch)
        case .awaitExit: after.jobs.insert(.exitTimer)
        case .terminateHolder:
            if world.holder == .withheld { after.holder = .leaving }
        case .killHolder:
            if !world.holder.isGone, !world.isAttached { after.holder = .gone(inOrder: false) }
        case .readHolderRecord: after.jobs.insert(.read)
        case .returnMemory:
            if world.known.contains(.memory) { violation = "memory that may be the TD's is given back" }
            if world.hasDuplicates { after.isCounted = true }
            after.hasDuplicates = false
            after.jobs.insert(.memory)
        case .keepMemory: after.jobs.insert(.memory)
        case .closeDuplicates:
            if world.known.contains(.memory) { violation = "memory that may be the TD's is given back" }
            after.hasDuplicates = false
        case .look: after.jobs.insert(.look)
        case .lookSoon, .lookLater: after.jobs.insert(.lookTimer)
        case .listAsFailed, .listAsOpen, .listAsQuarantined: break
        case .forget:
            if world.hasRecord || world.isKeyTaken { violation = "a TD is forgotten of which something is left" }
            after.isForgotten = true
        }
        return [Step(text: "tdxd does “\(action)”", world: after, violation: violation ?? check(after))]
    }

    private func clients(_ world: EndWorld) -> [Step] {
        let events: [EndEvent] = [
            .stopAsked(StopTerms()), .stopAsked(StopTerms(holdsMemory: true)),
            .stopAsked(StopTerms(answersWhenHalted: true)), .reclaimAsked, .deadlinePassed, .proofTimePassed,
        ]
        var steps = events.map { apply($0, world, "\($0)") }
        if !world.isKeyTaken, !world.isKeyAnothers {
            var after = world
            after.isKeyAnothers = true
            steps.append(Step(text: "another TD gets the key id", world: after))
        }
        return steps
    }

    /// What comes of calls.
    private func answers(_ world: EndWorld) -> [Step] {
        var steps: [Step] = []
        func end(_ call: EndWorld.Jobs, _ event: EndEvent, _ text: String) {
            var after = world
            after.jobs.subtract(call)
            steps.append(apply(event, after, text))
        }
        let calls: [(EndWorld.Jobs, EndWorld.Jobs)] = [
            (.halt, [.halt, .haltTaken]), (.release, [.release, .releaseTaken]), (.progress, [.progress]),
        ]
        for (call, all) in calls where world.jobs.contains(call) {
            for failure in CallFailure.allCases {
                // A holder that is asked to halt and has taken the call does not say that it will not.
                if failure == .refusedForGood, call != .halt || world.jobs.contains(.haltTaken) { continue }
                // What a dead process answers is nothing.
                if world.holder.isGone, failure != .unreachable { continue }
                end(all, .failed(failure), "the call is \(failure.rawValue)")
            }
            if !world.holder.isGone { end(all, .silentTooLong, "the holder has been silent for too long") }
        }
        if world.jobs.contains(.haltTaken), world.holder == .halted {
            end([.halt, .haltTaken], .halted(world.holderKept), "the holder answers that the TD runs no more")
        }
        if world.jobs.contains(.releaseTaken), world.holder == .leaving || world.holder == .withheld {
            end(
                [.release, .releaseTaken],
                .released(world.holderKept, isWithheld: world.holder == .withheld), "the holder answers for the memory")
        }
        if world.jobs.contains(.progress), let progress = Self.progress(world.holder) {
            end(.progress, .holderSays(progress), "the holder says that it is \(progress.rawValue)")
        }
        return steps
    }

    /// What comes of timers, of tdxd's own work, and of the pidfd.
    private func own(_ world: EndWorld) -> [Step] {
        var steps: [Step] = []
        func end(
            _ job: EndWorld.Jobs, _ event: EndEvent, _ text: String, _ change: (inout EndWorld) -> Void = { _ in }
        ) {
            var after = world
            after.jobs.subtract(job)
            change(&after)
            steps.append(apply(event, after, text))
        }
        let jobs = world.jobs
        if jobs.contains(.askTimer) { end(.askTimer, .askAgainDue, "it is time to ask again") }
        if jobs.contains(.exitTimer) { end(.exitTimer, .exitOverdue, "the process should have ended") }
        if jobs.contains(.read) { end(.read, .recordRead(world.holderRecord ?? []), "the holder's record is read") }
        if jobs.contains(.memory) { end(.memory, .memoryDone, "what was left is dealt with") }
        if jobs.contains(.lookTimer) { end(.lookTimer, .lookDue, "it is time to look") }
        if jobs.contains(.fetch) {
            end(.fetch, .duplicatesFetched(false), "there are no duplicates to be had")
            if !world.holder.isGone {
                end(.fetch, .duplicatesFetched(true), "duplicates are there") { $0.hasDuplicates = true }
            }
        }
        if jobs.contains(.look) {
            end(.look, .looked(.open), "a look leaves something open")
            if world.holder.isGone, !world.hasDuplicates {
                if !world.isCounted { end(.look, .looked(.unmeasured), "a look proves all but what was never counted") }
                // Also without a count: where every process could be seen not to have the files.
                end(.look, .looked(.proven), "a look proves all")
            }
        }
        if jobs.contains(.certificate), let verdict = world.verdict {
            var written = world
            written.jobs.remove(.certificate)
            written.jobs.insert(.certificateTold)
            written.certificate = verdict == .over(isComplete: true) ? .complete : .incomplete
            steps.append(Step(text: "the certificate is written", world: written))
            end(.certificate, .certificateWritten(false), "the certificate cannot be written") { $0.verdict = nil }
        }
        if jobs.contains(.certificateTold) {
            end(.certificateTold, .certificateWritten(true), "tdxd goes on after the certificate") { $0.verdict = nil }
        }
        if case .gone(let inOrder) = world.holder, world.machine?.holderIsGone == false {
            steps.append(apply(.holderGone(inOrder: inOrder), world, "the pidfd says that the holder has ended"))
        }
        // A creation.
        if world.machine?.stage == .building, world.holder == .runnable {
            var after = world
            after.isBuilt = true
            after.knowsBuilt = true
            after.hasDuplicates = true
            steps.append(apply(.built, after, "the TD is built"))
        }
        if world.machine?.stage == .building || world.machine?.stage == .clearing {
            var after = world
            after.hasDuplicates = false
            if !world.isAttached { after.holder = .gone(inOrder: false) }
            if after.holder.isGone {
                steps.append(apply(.buildAbandoned(holderIsGone: true), after, "the creation gives up"))
            }
            steps.append(apply(.buildAbandoned(holderIsGone: false), world, "the creation cannot clear up"))
        }
        return steps
    }

    // MARK: The holder

    private func holder(_ world: EndWorld) -> [Step] {
        var steps: [Step] = []
        func become(_ holder: EndWorld.Holder, _ text: String, _ change: (inout EndWorld) -> Void = { _ in }) {
            var after = world
            after.holder = holder
            change(&after)
            steps.append(Step(text: text, world: after))
        }
        if !world.holder.isGone { become(.gone(inOrder: false), "the holder is killed") }
        switch world.holder {
        case .building: become(.runnable, "the holder has built the TD")
        case .runnable:
            if world.jobs.contains(.halt) {
                become(.stopping, "the holder takes the call") { $0.jobs.insert(.haltTaken) }
            }
        case .stopping:
            for kept in Self.keeps {
                become(.halted, "the TD runs no more, kept \(kept.rawValue)") { $0.holderKept = kept }
            }
        case .halted:
            if world.jobs.contains(.release) {
                become(.releasing, "the holder takes the call") { $0.jobs.insert(.releaseTaken) }
            }
        case .withheld:
            if world.jobs.contains(.release), !world.jobs.contains(.releaseTaken) {
                become(.withheld, "the holder takes the call") { $0.jobs.insert(.releaseTaken) }
            }
        case .releasing:
            for kept in Self.keeps {
                let all = world.holderKept.union(kept)
                become(kept.contains(.memory) ? .withheld : .leaving, "the memory comes back, kept \(kept.rawValue)") {
                    $0.holderKept = all
                    $0.holderRecord = all
                }
            }
        case .leaving: become(.gone(inOrder: true), "the holder ends")
        case .gone: break
        }
        return steps
    }

    private static func progress(_ holder: EndWorld.Holder) -> HolderProgress? {
        switch holder {
        case .building, .gone: nil
        case .runnable: .runnable
        case .stopping, .releasing: .ending
        case .halted, .withheld: .halted
        case .leaving: .ended
        }
    }
}

/// What came of going through every order of events.
struct Exploration {
    var states = 0
    var transitions = 0
    /// The shortest way to what must never be, its consequence last.
    var counterexample: [String]?
    /// Stages that were come to.
    var stages: Set<EndMachine.Stage> = []

    /// - Complexity: the number of states.
    init(_ start: EndWorld, _ rules: EndRules = EndRules()) {
        var worlds = [start]
        var parents: [Int32] = [-1]
        var indices: [EndWorld: Int32] = [start: 0]
        var edges: [(from: Int32, to: Int32)] = []
        var next = 0
        while next < worlds.count {
            let world = worlds[next]
            if let stage = world.machine?.stage { stages.insert(stage) }
            for step in rules.steps(from: world) {
                transitions += 1
                if let violation = step.violation {
                    states = worlds.count
                    counterexample = Self.path(to: next, worlds, parents, rules) + [step.text, violation]
                    return
                }
                if let known = indices[step.world] {
                    edges.append((Int32(next), known))
                    continue
                }
                let index = Int32(worlds.count)
                indices[step.world] = index
                worlds.append(step.world)
                parents.append(Int32(next))
                edges.append((Int32(next), index))
            }
            next += 1
        }
        states = worlds.count
        // From every state there is a way to an end that is settled, or to a TD that goes on as before.
        if let stuck = Self.firstStuck(worlds, edges) {
            counterexample = Self.path(to: stuck, worlds, parents, rules) + ["its end is never settled"]
        }
    }

    private static func firstStuck(_ worlds: [EndWorld], _ edges: [(from: Int32, to: Int32)]) -> Int? {
        var reaches = worlds.map(\.isSettled)
        var sources = [[Int32]](repeating: [], count: worlds.count)
        for edge in edges { sources[Int(edge.to)].append(edge.from) }
        var work = reaches.indices.filter { reaches[$0] }
        while let index = work.popLast() {
            for source in sources[index] where !reaches[Int(source)] {
                reaches[Int(source)] = true
                work.append(Int(source))
            }
        }
        return reaches.firstIndex(of: false)
    }

    private static func path(to end: Int, _ worlds: [EndWorld], _ parents: [Int32], _ rules: EndRules) -> [String] {
        var texts: [String] = []
        var index = end
        while parents[index] >= 0 {
            let parent = Int(parents[index])
            let step = rules.steps(from: worlds[parent]).first { $0.world == worlds[index] }
            texts.append(step?.text ?? "?")
            index = parent
        }
        return texts.reversed()
    }
}
