internal import LinuxSystem
internal import MemoryUnits
internal import VMMTerms

/// What happened while a VMM ran under `tdxctl run`.
func render(_ report: EngineReport?, exit: ProcessExit, emulate: VMMSettings.Emulation, _ style: Style) -> String {
    guard let report else {
        let reason =
            emulate == .never
            ? "TDX was not emulated, as asked for" : "it asked for no TDX guest, or the host has TDX itself"
        return "tdxctl: the VMM \(exit); there is no report: \(reason)\n"
    }
    var lines: [(String, String)] = []
    let backend = report.backend == "memfd" ? "memfd" : "guest_memfd"
    lines.append(("VMM", "\(printable(report.program)), \(exit)"))
    lines.append(("TDX", style.doubtful("emulated") + " (backend \(backend)): nothing was encrypted"))
    for domain in report.trustDomains { lines += render(domain) }
    let kinds = report.requests.count
    lines.append(("Requests", "\(grouped(report.requestCount)) of \(kinds) kinds" + refusals(report)))
    lines += render(report.guest, style)
    lines.append(("Leaked", leaked(report, style)))
    let width = lines.map(\.0.count).max() ?? 0
    return "\n"
        + lines.map { name, value in
            name + String(repeating: " ", count: width - name.count + 2) + value + "\n"
        }.joined()
}

private func render(_ domain: EngineReport.TrustDomain) -> [(String, String)] {
    var lines: [(String, String)] = []
    let key = domain.keyId.map { "key id \($0)" } ?? "no key id"
    let state = domain.destroyed ? "destroyed" : "there"
    lines.append(
        (
            "TD \(domain.generation)",
            "\(domain.vcpus) vCPUs, \(formatted(bytes: domain.guestMemoryBytes)), \(key), \(state)"
        ))
    if let mrtd = domain.mrtd { lines.append(("  MRTD", printable(mrtd))) }
    lines.append(
        ("  Loaded", "\(grouped(domain.loadedPages)) pages, \(grouped(domain.measuredPages)) of them measured"))
    let exits = domain.exits.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    lines.append(
        (
            "  Exits",
            exits.isEmpty
                ? "none" : exits.map { "\(printable($0.key)) \(grouped($0.value))" }.joined(separator: ", ")
        ))
    lines.append(
        (
            "  Attributes",
            "\(grouped(domain.toShared)) to shared (\(formatted(bytes: domain.toSharedBytes))), "
                + "\(grouped(domain.toPrivate)) to private (\(formatted(bytes: domain.toPrivateBytes))); "
                + "\(formatted(bytes: domain.punchedBytes)) punched"
        ))
    if let bug = domain.bug { lines.append(("  Kernel bug", printable(bug))) }
    for note in domain.notes { lines.append(("  Note", printable(note))) }
    return lines
}

private func render(_ guest: EngineReport.Guest, _ style: Style) -> [(String, String)] {
    let failures =
        guest.failures.isEmpty ? "" : ", " + style.bad("\(guest.failures.count) expectations were not met")
    var lines = [("Guest", "\(printable(guest.name)): \(guest.state), \(grouped(guest.steps)) steps\(failures)")]
    for failure in guest.failures.prefix(20) { lines.append(("  Failed", printable(failure))) }
    if guest.failures.count > 20 { lines.append(("  Failed", "… \(guest.failures.count - 20) more in the report")) }
    return lines
}

private func refusals(_ report: EngineReport) -> String {
    guard !report.refusals.isEmpty else { return "" }
    let all = report.refusals.sorted { $0.key < $1.key }.map { "\(printable($0.key)) × \($0.value)" }
    return "; refused: " + all.joined(separator: ", ")
}

private func leaked(_ report: EngineReport, _ style: Style) -> String {
    guard let leaks = report.leaks else {
        return style.doubtful(
            "unknown: the VMM's process did not end by itself, or it goes on as process \(report.pid)")
    }
    if leaks.isEmpty { return style.good("nothing") }
    return style.bad("\(leaks.trustDomains) TDs, \(leaks.keyIds) key ids, \(leaks.pages) pages")
}

/// 12,345
private func grouped(_ number: UInt64) -> String {
    let digits = Array(String(number))
    var text = ""
    for (index, digit) in digits.enumerated() {
        if index > 0, (digits.count - index).isMultiple(of: 3) { text.append(",") }
        text.append(digit)
    }
    return text
}
