/// What came of exploring one protocol: every interleaving of the conversion with loads from any page, through any
/// mapping, on any CPU, and with TLB entries that a CPU drops of its own, at any moment.
public struct TransitionReport: Hashable, Sendable {
    public var name: String
    public var summary: String
    /// No interleaving goes wrong: no load needs a fix-up handler beyond the ordinary one for not-present pages.
    public var safe: Bool
    /// Distinct states that were visited over both directions and both kinds of address.
    public var states: Int
    /// TLB flushes of one conversion.
    public var tlbFlushes: Int
    /// Writes to page-table entries of one conversion of one page, the alias's removal included.
    public var pageTableTouches: Int
    /// The shortest interleaving that goes wrong, step by step, its consequence last; nil when safe.
    public var counterexample: [String]?
}

/// One part of a step.
private enum Part: Hashable {
    case removeAlias(page: Int)
    case clearPresent(page: Int)
    case changeAttribute(page: Int)
    case clearPresentAndChangeAttribute(page: Int)
    case flush(cpu: Int)
    case flushCaches
    case notify(page: Int)
    case accept(page: Int)
    case setPresent(page: Int)
}

/// Runs a protocol against readers through every interleaving, breadth first, so that the first mishap is a shortest.
public enum TransitionExplorer {
    /// - Parameters:
    ///   - pages: pages of the range, 1 … 3; two are enough for a load that runs over the end of one into the next.
    /// - Complexity: the number of states, which is below 100,000 for two pages.
    public static func explore(_ transition: TransitionProtocol, pages: Int = 2) -> TransitionReport {
        precondition((1...3).contains(pages), "1 to 3 pages")
        var states = 0
        var shortest: [String]?
        for direction in TransitionDirection.allCases {
            for kind in AddressKind.allCases {
                let result = search(transition, direction, kind, pages)
                states += result.states
                if let path = result.path, path.count + 1 < (shortest?.count ?? .max) {
                    shortest = ["converting \(pages) pages \(direction.rawValue), \(kind.rawValue) addresses"] + path
                }
            }
        }
        return TransitionReport(
            name: transition.name, summary: transition.summary, safe: shortest == nil, states: states,
            tlbFlushes: transition.steps.count { $0 == .flushTLBs },
            pageTableTouches: transition.steps.map(touches).reduce(0, +), counterexample: shortest)
    }

    /// Writes to entries that a step makes for each page.
    private static func touches(_ step: TransitionStep) -> Int {
        switch step {
        case .removeAliases, .clearPresent, .changeAttribute, .clearPresentAndChangeAttribute, .setPresent: 1
        case .flushTLBs, .flushCaches, .notifyBefore, .notifyAfter, .notify, .accept: 0
        }
    }

    private static func parts(
        _ steps: [TransitionStep], _ direction: TransitionDirection, _ pages: Int
    ) -> [Part] {
        steps.flatMap { step -> [Part] in
            let all = 0..<pages
            switch step {
            case .removeAliases: return all.map { .removeAlias(page: $0) }
            case .clearPresent: return all.map { .clearPresent(page: $0) }
            case .changeAttribute: return all.map { .changeAttribute(page: $0) }
            case .clearPresentAndChangeAttribute: return all.map { .clearPresentAndChangeAttribute(page: $0) }
            case .flushTLBs: return (0..<MemoryState.cpus).map { .flush(cpu: $0) }
            case .flushCaches: return [.flushCaches]
            case .notify: return all.map { .notify(page: $0) }
            case .notifyBefore: return direction == .toPrivate ? all.map { .notify(page: $0) } : []
            case .notifyAfter: return direction == .toShared ? all.map { .notify(page: $0) } : []
            case .accept: return direction == .toPrivate ? all.map { .accept(page: $0) } : []
            case .setPresent: return all.map { .setPresent(page: $0) }
            }
        }
    }

    private struct Visit {
        var state: MemoryState
        var parent: Int
        var text: String
    }

    private static func search(
        _ transition: TransitionProtocol, _ direction: TransitionDirection, _ kind: AddressKind, _ pages: Int
    ) -> (states: Int, path: [String]?) {
        let parts = parts(transition.steps, direction, pages)
        let start = MemoryState(pages: pages, direction: direction)
        var visits = [Visit(state: start, parent: -1, text: "")]
        var seen: Set<MemoryState> = [start]
        func path(to index: Int, _ last: [String]) -> [String] {
            var texts: [String] = []
            var index = index
            while visits[index].parent >= 0 {
                texts.append(visits[index].text)
                index = visits[index].parent
            }
            return texts.reversed() + last
        }
        var next = 0
        while next < visits.count {
            let state = visits[next].state
            for move in moves(from: state, parts, transition.translation, kind, direction) {
                switch move {
                case .wrong(let texts): return (seen.count, path(to: next, texts))
                case .state(let state, let text):
                    if seen.insert(state).inserted { visits.append(Visit(state: state, parent: next, text: text)) }
                }
            }
            next += 1
        }
        return (seen.count, nil)
    }

    private enum Move {
        case state(MemoryState, String)
        case wrong([String])
    }

    /// Everything that can happen next: the conversion's next part, or a load.
    private static func moves(
        from state: MemoryState, _ parts: [Part], _ translation: AddressTranslation, _ kind: AddressKind,
        _ direction: TransitionDirection
    ) -> [Move] {
        var moves: [Move] = []
        if state.done < parts.count {
            moves.append(perform(parts[state.done], state, translation, kind, direction))
        }
        for cpu in 0..<MemoryState.cpus {
            for mapping in MemoryState.Mapping.allCases {
                for page in state.backing.indices {
                    if let move = load(state, cpu: cpu, mapping, page: page) { moves.append(move) }
                    if state.tlbs[cpu][mapping.rawValue][page] != nil {
                        var after = state
                        after.tlbs[cpu][mapping.rawValue][page] = nil
                        moves.append(.state(after, "CPU \(cpu) drops its TLB entry of page \(page)"))
                    }
                }
            }
        }
        return moves
    }

    /// A load by a reader that may touch any address: nil when it changes nothing and harms nothing.
    private static func load(_ state: MemoryState, cpu: Int, _ mapping: MemoryState.Mapping, page: Int) -> Move? {
        let text = "CPU \(cpu) loads from page \(page) through \(mapping.text)"
        if let cached = state.tlbs[cpu][mapping.rawValue][page] {
            return state.mishap(page: page, isPrivate: cached).map {
                .wrong([text + ", translated by its TLB as \(cached ? "private" : "shared")", $0])
            }
        }
        let entry = state.entries[mapping.rawValue][page]
        // A page fault: the exception table of the load gives zeros, on every architecture.
        guard entry.isPresent else { return nil }
        if let mishap = state.mishap(page: page, isPrivate: entry.isPrivate) {
            return .wrong([
                text + ", translated by the page tables as \(entry.isPrivate ? "private" : "shared")", mishap,
            ])
        }
        var after = state
        after.tlbs[cpu][mapping.rawValue][page] = entry.isPrivate
        return .state(after, text)
    }

    private static func perform(
        _ part: Part, _ state: MemoryState, _ translation: AddressTranslation, _ kind: AddressKind,
        _ direction: TransitionDirection
    ) -> Move {
        var after = state
        after.done += 1
        let becomesPrivate = direction == .toPrivate
        let own = MemoryState.Mapping.own.rawValue
        switch part {
        case .removeAlias(let page):
            after.entries[MemoryState.Mapping.alias.rawValue][page].isPresent = false
            return .state(after, "the alias mapping of page \(page) is removed")
        case .clearPresent(let page):
            after.entries[own][page].isPresent = false
            return .state(after, "PRESENT of page \(page) is cleared")
        case .changeAttribute(let page):
            after.entries[own][page].isPrivate = becomesPrivate
            return .state(after, "the attribute of page \(page) becomes \(becomesPrivate ? "private" : "shared")")
        case .clearPresentAndChangeAttribute(let page):
            after.entries[own][page] = MemoryState.Entry(isPresent: false, isPrivate: becomesPrivate)
            return .state(
                after,
                "PRESENT of page \(page) is cleared, its attribute becomes \(becomesPrivate ? "private" : "shared")")
        case .flush(let cpu):
            for mapping in MemoryState.Mapping.allCases {
                for page in state.backing.indices { after.tlbs[cpu][mapping.rawValue][page] = nil }
            }
            return .state(after, "CPU \(cpu) flushes its TLB")
        case .flushCaches: return .state(after, "caches are written back")
        case .notify(let page):
            if kind == .vmalloc, translation == .walkPresent, !state.entries[own][page].isPresent {
                return .wrong([
                    "the notification looks page \(page) up in the page tables",
                    "PRESENT is clear, so the walk finds no guest-physical address and the host is not notified",
                ])
            }
            after.backing[page] = becomesPrivate ? .pending : .shared
            return .state(after, "the host makes page \(page) \(becomesPrivate ? "private" : "shared")")
        case .accept(let page):
            after.backing[page] = .accepted
            return .state(after, "the guest accepts page \(page)")
        case .setPresent(let page):
            after.entries[own][page].isPresent = true
            return .state(after, "PRESENT of page \(page) is set")
        }
    }
}
