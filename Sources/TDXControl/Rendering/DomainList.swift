internal import ControlInterface
internal import MemoryUnits

/// A column of `tdxctl list`.
enum DomainColumn: String, CaseIterable, Sendable {
    case name, state, memory, `private`, shared, converting, resident, vcpus, key, holder, kind, backend, owner, created
    case id

    var title: String { rawValue.uppercased() }

    var alignment: Table.Alignment {
        switch self {
        case .name, .state, .kind, .backend, .created, .id: .left
        case .memory, .private, .shared, .converting, .resident, .vcpus, .key, .holder, .owner: .right
        }
    }

    func cell(_ domain: TrustDomain) -> Table.Cell {
        switch self {
        case .name: .init(text: printable(domain.name), paint: .bold)
        case .state: .init(text: domain.state.rawValue, paint: paint(domain.state))
        case .memory: .init(text: formatted(bytes: domain.memoryBytes))
        case .private: .init(text: formatted(bytes: domain.privateBytes))
        case .shared: .init(text: formatted(bytes: domain.sharedBytes))
        case .converting: .init(text: formatted(bytes: domain.convertingBytes))
        case .resident: .init(text: domain.residentBytes.map { formatted(bytes: $0) } ?? "unknown")
        case .vcpus: .init(text: String(domain.vcpus))
        case .key: .init(text: domain.keyID.map { String($0) } ?? "–")
        case .holder: .init(text: domain.holderPID > 0 ? String(domain.holderPID) : "–")
        case .kind: .init(text: domain.kind?.rawValue ?? "–")
        case .backend: .init(text: formatted(backend: domain.backend, emulated: domain.emulated))
        case .owner: .init(text: String(domain.ownerUID))
        case .created: .init(text: printable(domain.createdAt))
        case .id: .init(text: printable(domain.id))
        }
    }

    /// Whether one TD comes before another in this column; nil where they are equal.
    func precedes(_ a: TrustDomain, _ b: TrustDomain) -> Bool? {
        func ordered<Value: Comparable>(_ x: Value, _ y: Value) -> Bool? { x == y ? nil : x < y }
        return switch self {
        case .name: a.name == b.name ? nil : precedesNaturally(a.name, b.name)
        case .state: ordered(a.state.rawValue, b.state.rawValue)
        case .memory: ordered(a.memoryBytes, b.memoryBytes)
        case .private: ordered(a.privateBytes, b.privateBytes)
        case .shared: ordered(a.sharedBytes, b.sharedBytes)
        case .converting: ordered(a.convertingBytes, b.convertingBytes)
        // What is unknown comes first.
        case .resident:
            ordered(
                a.residentBytes.map { $0.addingSaturated(1) } ?? 0, b.residentBytes.map { $0.addingSaturated(1) } ?? 0)
        case .vcpus: ordered(a.vcpus, b.vcpus)
        case .key: ordered(a.keyID.map { Int($0) } ?? -1, b.keyID.map { Int($0) } ?? -1)
        case .holder: ordered(a.holderPID, b.holderPID)
        case .kind: ordered(a.kind?.rawValue ?? "", b.kind?.rawValue ?? "")
        case .backend: ordered(a.backend.rawValue, b.backend.rawValue)
        case .owner: ordered(a.ownerUID, b.ownerUID)
        case .created: ordered(a.createdAt, b.createdAt)
        case .id: ordered(a.id, b.id)
        }
    }

    /// What is shown unless columns are named: what fits in 80 characters with names of ordinary length. What all rows
    /// share, or what is 0 in all of them, has no column.
    static func standard(for domains: [TrustDomain]) -> [DomainColumn] {
        var columns: [DomainColumn] = [.name, .state, .memory, .private, .shared]
        if domains.contains(where: { $0.convertingBytes > 0 }) { columns.append(.converting) }
        columns += [.resident, .key, .holder]
        if Set(domains.map(\.backend)).count > 1 { columns.append(.backend) }
        return columns
    }
}

/// The table of `tdxctl list`, and under it how many TDs there are and, where all have the same one, on which backend.
/// - Parameter columns: those that the table has; nil for the standard ones.
func render(
    _ domains: [TrustDomain], columns: [DomainColumn]? = nil, hasLegend: Bool = true, _ style: Style
) -> String {
    guard !domains.isEmpty else { return hasLegend ? "There are no TDs.\n" : "" }
    let columns = columns ?? DomainColumn.standard(for: domains)
    var table = Table(columns.map { ($0.title, $0.alignment) })
    for domain in domains { table.add(columns.map { $0.cell(domain) }) }
    guard hasLegend else { return table.rendered(style, hasHeader: false) }
    let backends = Set(domains.map { formatted(backend: $0.backend, emulated: $0.emulated) })
    let shared = backends.count == 1 && !columns.contains(.backend) ? backends.first.map { ", backend \($0)" } : nil
    return table.rendered(style) + "\n\(domains.count) TD\(domains.count == 1 ? "" : "s")\(shared ?? "")\n"
}

func paint(_ state: TrustDomainState) -> Paint {
    switch state {
    case .runnable: .good
    case .failed: .bad
    case .building, .stopping, .draining: .doubtful
    }
}
