import Testing

@testable import TransitionModel

@Suite struct ExplorerTests {
    @Test(arguments: [TransitionProtocol.presentClearing, .presentClearingMerged])
    func `A protocol that clears PRESENT is safe in every interleaving`(transition: TransitionProtocol) {
        let report = TransitionExplorer.explore(transition)
        #expect(report.safe && report.counterexample == nil)
        #expect(report.states > 1000)
    }

    @Test func `The older order goes wrong two steps after the last safe one, with names`() throws {
        let report = TransitionExplorer.explore(.alwaysPresent, pages: 1)
        #expect(!report.safe)
        let path = try #require(report.counterexample)
        // The attribute says shared while the host still holds the page private, and a load comes between.
        #expect(path.first == "converting 1 pages to-shared, linear addresses")
        #expect(path.dropLast(2).last == "the attribute of page 0 becomes shared")
        #expect(path.last?.contains("a shared access to a page that the host holds private") == true)
        // On the way to private the host is told first, which is no better.
        var toPrivate = TransitionProtocol.alwaysPresent
        toPrivate.steps.removeAll { $0 == .notifyAfter || $0 == .changeAttribute }
        #expect(TransitionExplorer.explore(toPrivate, pages: 1).counterexample?.first?.contains("to-private") == true)
    }

    @Test func `One flush and three touches instead of three and four`() {
        let full = TransitionExplorer.explore(.presentClearing, pages: 1)
        let merged = TransitionExplorer.explore(.presentClearingMerged, pages: 1)
        #expect((full.tlbFlushes, full.pageTableTouches) == (3, 4))
        #expect((merged.tlbFlushes, merged.pageTableTouches) == (1, 3))
    }

    @Test func `A notification that walks only present entries fails for vmalloc addresses`() throws {
        let report = TransitionExplorer.explore(.presentClearingWithPlainWalk)
        let path = try #require(report.counterexample)
        #expect(path[0].hasSuffix("vmalloc addresses"))
        #expect(path.last?.contains("the host is not notified") == true)
        // The linear map needs no walk.
        var linear = TransitionProtocol.presentClearingWithPlainWalk
        linear.translation = .walkAnyway
        #expect(TransitionExplorer.explore(linear).safe)
    }

    @Test(arguments: [TransitionStep.removeAliases, .clearPresentAndChangeAttribute, .flushTLBs, .accept])
    func `No step of the merged protocol can be left out`(step: TransitionStep) {
        var transition = TransitionProtocol.presentClearingMerged
        transition.steps.removeAll { $0 == step }
        #expect(!TransitionExplorer.explore(transition, pages: 1).safe)
    }

    @Test func `Telling the host before the flush is found out through the stale TLB`() throws {
        let early = TransitionProtocol(
            name: "early", summary: "",
            steps: [.removeAliases, .clearPresentAndChangeAttribute, .notify, .flushTLBs, .accept, .setPresent])
        let path = try #require(TransitionExplorer.explore(early, pages: 1).counterexample)
        #expect(path.contains { $0.hasPrefix("CPU 1 loads from page 0") && $0.contains("by its TLB") })
    }

    @Test func `A counterexample is a shortest one and replays the same every time`() {
        let first = TransitionExplorer.explore(.alwaysPresent)
        #expect(first == TransitionExplorer.explore(.alwaysPresent))
    }
}
