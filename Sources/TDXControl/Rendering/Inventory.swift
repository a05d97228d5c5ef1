internal import ControlInterface
internal import MemoryUnits

/// The table of `tdxctl inventory`, why TDs are counted whole, and the sums.
func render(_ domains: [InventoryDomain], _ total: InventoryTotal, _ style: Style) -> String {
    var text = ""
    if !domains.isEmpty {
        var table = Table(
            ("NAME", .left), ("STATE", .left), ("MEMORY", .right), ("PRIVATE", .right), ("CONVERTING", .right),
            ("COUNTED", .left), ("BACKEND", .left))
        for domain in domains {
            table.add([
                .init(text: printable(domain.name), paint: .bold), .init(text: domain.state.rawValue),
                .init(text: formatted(bytes: domain.memoryBytes)), .init(text: formatted(bytes: domain.privateBytes)),
                .init(text: formatted(bytes: domain.convertingBytes)),
                .init(
                    text: domain.source == .map ? "by page" : "WHOLE", paint: domain.source == .map ? .none : .doubtful),
                .init(text: formatted(backend: domain.backend, emulated: domain.emulated)),
            ])
        }
        text += table.rendered(style)
        for domain in domains {
            if let reason = domain.reason { text += "\(printable(domain.name)): \(printable(reason))\n" }
        }
    }
    return text + render(total)
}

/// An answer of an inventory with ranges: TDs, each with a line of its own, and ranges under the name of theirs.
/// - Parameter names: of the TDs that were reported, by id.
func renderParts(of reply: ManagerInterface.Inventory.Reply, names: [String: String], _ style: Style) -> String {
    let ranges = reply.ranges ?? []
    var text = ""
    // Ranges that come first belong to a TD that was reported before.
    let known = Set((reply.domains ?? []).map(\.id))
    for part in ranges where !known.contains(part.id) { text += render(part, names) }
    for domain in reply.domains ?? [] {
        text += style.bold(printable(domain.name)) + " (\(domain.state.rawValue)): "
        text +=
            "\(formatted(bytes: domain.privateBytes)) private, \(formatted(bytes: domain.convertingBytes)) converting"
        text += " of \(formatted(bytes: domain.memoryBytes))"
        if let count = domain.ranges {
            text += ", \(counted(count, "range"))" + (domain.sequence.map { " as of change \($0)" } ?? "")
        }
        text += " [\(formatted(backend: domain.backend, emulated: domain.emulated))]\n"
        if domain.source == .whole { text += "  " + style.doubtful("counted whole") + "\n" }
        if let reason = domain.reason { text += "  \(printable(reason))\n" }
        for part in ranges where part.id == domain.id { text += render(part, names) }
    }
    return text
}

private func render(_ part: InventoryRanges, _ names: [String: String]) -> String {
    var text = ""
    for run in part.runs {
        text += "  \(formatted(address: run.gpa))–\(formatted(address: run.gpa &+ run.bytes))  "
        text += "\(formatted(bytes: run.bytes))  \(run.attribute.rawValue)\n"
    }
    if let cut = part.cut {
        text += "  \(printable(names[part.id] ?? part.id)): no further ranges: \(printable(cut))\n"
    }
    return text
}

func render(_ total: InventoryTotal) -> String {
    var text = "\(counted(total.domains, "TD")): \(formatted(bytes: total.privateBytes)) private, "
    text += "\(formatted(bytes: total.convertingBytes)) converting"
    if total.ranges > 0 { text += ", \(counted(total.ranges, "range"))" }
    if total.wholeDomains > 0 { text += "; \(counted(total.wholeDomains, "TD")) counted whole" }
    if total.withoutRanges > 0 { text += "; \(counted(total.withoutRanges, "TD")) without ranges" }
    return text + " [\(formatted(backend: total.backend, emulated: total.emulated))]\n"
}
