internal import ControlInterface
internal import MemoryUnits

/// How long ends of TDs took on this host, from the certificates that are kept: a measurement, but of the backend that it
/// names, which may be emulated.
struct TeardownHistory: Encodable, Hashable, Sendable {
    var backend: Backend
    var emulated: Bool
    var path: EndPath
    /// How many ends it stands on.
    var ends: Int
    /// The median, of everything from the stop to the certificate.
    var microsecondsPerPage: Double
    /// For the memory that was asked for.
    var seconds: Double

    /// Fewer ends are no basis.
    static let fewest = 3
    /// With less memory the time is that of processes and proofs, not of memory.
    static let leastBytes = UInt64(64) << 20

    /// The figures of certificates by backend and path. Ends that waited on purpose, that were incomplete or whose
    /// holder had died are left out.
    static func of(_ certificates: [CertificateSummary], memory: ByteCount) -> [TeardownHistory] {
        struct Kind: Hashable {
            var backend: Backend
            var emulated: Bool
            var path: EndPath
        }
        let usable = certificates.filter {
            $0.complete && !$0.holderDied && $0.policy != nil && $0.policy != StopPolicy.deferred.rawValue
                && $0.releasedBytes >= leastBytes
        }
        let byKind = Dictionary(grouping: usable) { Kind(backend: $0.backend, emulated: $0.emulated, path: $0.path) }
        return byKind.compactMap { kind, ends in
            guard ends.count >= fewest else { return nil }
            let costs = ends.map { $0.milliseconds * 1000 / (Double($0.releasedBytes) / Double(pageSize)) }.sorted()
            let middle = costs.count / 2
            let median = costs.count % 2 == 1 ? costs[middle] : (costs[middle - 1] + costs[middle]) / 2
            return TeardownHistory(
                backend: kind.backend, emulated: kind.emulated, path: kind.path, ends: ends.count,
                microsecondsPerPage: median, seconds: median * Double(memory.rawValue) / Double(pageSize) / 1e6)
        }.sorted { ($0.backend.rawValue, $0.path.rawValue) < ($1.backend.rawValue, $1.path.rawValue) }
    }

    enum CodingKeys: String, CodingKey {
        case backend, emulated, path, ends
        case microsecondsPerPage = "microseconds_per_page"
        case seconds
    }
}

/// The table below the model's; empty where there is no history.
func render(_ history: [TeardownHistory], _ style: Style) -> String {
    guard !history.isEmpty else { return "" }
    var table = Table(("PATH", .left), ("TIME", .right), ("PER PAGE", .right), ("ENDS", .right), ("BACKEND", .left))
    for row in history {
        table.add([
            .init(text: printable(row.path.rawValue)), .init(text: formatted(longSeconds: row.seconds), paint: .bold),
            .init(text: formatted(milliseconds: row.microsecondsPerPage / 1000)), .init(text: String(row.ends)),
            .init(text: formatted(backend: row.backend, emulated: row.emulated)),
        ])
    }
    return "\n" + style.bold("MEASURED") + " on this host, from its certificates (medians):\n" + table.rendered(style)
}
