import Testing

@testable import DomainEnd

/// Every order of events in the end of a TD, with a death of the holder, of tdxd and of both between any two.
@Suite struct EndExplorationTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var isAttached: Bool
        var hasStore: Bool
        var testDescription: String {
            (isAttached ? "attached" : "held") + (hasStore ? ", with a descriptor store" : "")
        }

        var start: EndWorld { EndWorld(isAttached: isAttached, hasStore: hasStore) }
    }

    /// The other two combinations have no order of events that is in neither of these.
    static let cases = [Case(isAttached: false, hasStore: true), Case(isAttached: true, hasStore: false)]

    @Test(arguments: cases)
    func `No order of events gives a key id twice, memory away unproven, or forgets a TD`(example: Case) {
        let found = Exploration(example.start)
        print("end of a TD, \(example.testDescription): \(found.states) states, \(found.transitions) transitions")
        #expect(found.counterexample == nil, "\(found.counterexample?.joined(separator: "\n") ?? "")")
        // What is not come to was not tried.
        #expect(Set(EndMachine.Stage.allCases).subtracting(found.stages).isSubset(of: [.forgotten]))
        #expect(found.states > 100_000)
    }

    /// Faults of one line each, and what must be found of them.
    static let mutations: [(Mutation, String)] = [
        (
            Mutation(
                name: "the machine forgets what is kept once the holder has ended",
                machine: {
                    if $0.stage == .reading { $0.kept = [] }
                }), "forgotten"
        ),
        (
            Mutation(
                name: "what the holder wrote down is not read",
                event: { event in
                    if case .recordRead = event { .recordRead([]) } else { event }
                }), "is given back"
        ),
        (
            Mutation(
                name: "memory that is to be kept is given back",
                actions: { actions in
                    actions.map { $0 == .keepMemory ? .returnMemory : $0 }
                }), "memory that may be the TD's is given back"
        ),
        (
            Mutation(
                name: "a refusal is taken for a death",
                event: { event in
                    event == .failed(.refused) ? .holderGone(inOrder: false) : event
                }), "a living holder is taken for dead"
        ),
        (
            Mutation(
                name: "a holder that cannot be reached is killed",
                event: { event in
                    event == .failed(.unreachable) ? .failed(.invalid) : event
                }), "a holder is killed because of"
        ),
        (
            Mutation(name: "a call that failed is not repeated", actions: { $0.filter { $0 != .askAgainLater } }),
            "nothing is under way"
        ),
        (
            Mutation(name: "an open end is not looked at again", actions: { $0.filter { $0 != .lookLater } }),
            "not looked at again"
        ),
        (
            Mutation(
                name: "an open end is settled as if it were proven",
                event: { event in
                    event == .looked(.open) ? .looked(.proven) : event
                }), "whose VM is still there"
        ),
        (
            Mutation(
                name: "the key id is free before the record is gone",
                actions: { actions in
                    actions == [.removeRecord, .giveKeyBack, .forget]
                        ? [.giveKeyBack, .removeRecord, .forget] : actions
                }), "two TDs have one key id"
        ),
        (
            Mutation(
                name: "a certificate that could not be written counts as written",
                event: { event in
                    event == .certificateWritten(false) ? .certificateWritten(true) : event
                }), "without a certificate"
        ),
    ]

    @Test(arguments: mutations.map(\.0.name))
    func `A fault in one transition is found, with the way to it`(name: String) throws {
        let (mutation, expected) = try #require(Self.mutations.first { $0.0.name == name })
        let found = Exploration(Self.cases[0].start, EndRules(mutation: mutation))
        let path = try #require(found.counterexample, "not found: \(name)")
        print("\(name): found after \(found.states) states, by \(path.count - 1) steps")
        #expect(path.last?.contains(expected) == true, "\(path.joined(separator: "\n"))")
    }
}
