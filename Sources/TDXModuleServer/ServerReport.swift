internal import FoundationEssentials
internal import MemoryUnits
internal import TDXModule
internal import TDXStatusCodes

/// What a server saw from the announcement to the machine's end.
public struct ServerReport: Encodable, Sendable {
    public struct Leaf: Encodable, Sendable {
        public var leaf: String
        public var calls: UInt64
        /// Refusals by the name of their status.
        public var refusals: [String: UInt64]
        /// Mean of all calls, measured in the server from the bell to the answer; the guest's time of VP.ENTER included.
        public var mean_microseconds: Double
    }

    public var calls: UInt64
    public var leaves: [Leaf]
    /// The module's pages when the machine ended, by type, and the most at any time.
    public var owned_pages: [String: Int]
    public var most_owned_pages: Int
    public var trust_domains: Int
    public var accesses_outside_memory: UInt64
    public var violations: [String]
    public var violation_count: UInt64

    init(_ server: ModuleServer, _ module: TDXModule) {
        let counts = server.counts.all
        calls = counts.reduce(0) { $0 + $1.count.calls }
        leaves = counts.map { number, count in
            Leaf(
                leaf: SeamcallLeaf(rawValue: number)?.name ?? "leaf \(number)", calls: count.calls,
                refusals: Dictionary(
                    count.refusals.map { (TDXStatus($0.key << 32).description, $0.value) }, uniquingKeysWith: +),
                mean_microseconds: (Double(count.nanoseconds) / Double(count.calls) / 10).rounded() / 100)
        }
        let ledger = server.memory.ledger
        owned_pages = Dictionary(uniqueKeysWithValues: ledger.countsByType.map { ("\($0.key)", $0.value) })
        most_owned_pages = ledger.counts.highest
        trust_domains = module.population.trustDomains
        accesses_outside_memory = server.memory.accessesOutside
        violations = ledger.violations.kept.map(\.description)
        violation_count = ledger.violations.count
    }

    /// The host kept to what the module owns.
    public var isClean: Bool { violation_count == 0 && accesses_outside_memory == 0 }

    /// One line of JSON.
    public var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else { preconditionFailure("a report of numbers and text encodes") }
        return String(decoding: data, as: UTF8.self)
    }

    /// For people, several lines.
    public var text: String {
        var lines = ["\(calls) calls"]
        for leaf in leaves {
            let refused = leaf.refusals.sorted { $0.key < $1.key }.map { ", \($0.value) × \($0.key)" }.joined()
            lines.append("  \(leaf.leaf) \(leaf.calls), mean \(leaf.mean_microseconds) µs\(refused)")
        }
        let owned = owned_pages.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
        lines.append(
            "pages owned at the end: \(owned.isEmpty ? "none" : owned); at most \(most_owned_pages) at a time; "
                + "\(trust_domains) TDs left")
        if accesses_outside_memory > 0 {
            lines.append("\(accesses_outside_memory) accesses to addresses without memory")
        }
        lines += violations
        if violation_count > UInt64(violations.count) {
            lines.append("and \(violation_count - UInt64(violations.count)) more pages")
        }
        return lines.joined(separator: "\n")
    }
}
