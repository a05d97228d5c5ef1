internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

/// One TD in full, for `tdxctl show` and the end of `tdxctl create`.
func render(_ domain: TrustDomain, _ style: Style) -> String {
    var fields: [(label: String, value: String)] = [
        ("Name", style.bold(printable(domain.name))),
        ("Id", printable(domain.id)),
        (
            "State",
            style.painted(domain.state.rawValue, paint(domain.state))
                + (domain.reason.map { ": " + printable($0) } ?? "")
        ),
        ("Backend", backendInFull(domain.backend, emulated: domain.emulated)),
        ("Memory", formatted(bytes: domain.memoryBytes)),
        ("  private", formatted(bytes: domain.privateBytes)),
        ("  shared", formatted(bytes: domain.sharedBytes)),
        ("  converting", formatted(bytes: domain.convertingBytes)),
        (
            "Resident",
            domain.residentBytes == nil
                ? "unknown: not counted yet, or the kernel cannot count (no cachestat(2))"
                : "\(formatted(bytes: domain.residentBytes ?? 0)) "
                    + "(private \(formatted(bytes: domain.residentPrivateBytes ?? 0)), "
                    + "shared \(formatted(bytes: domain.residentSharedBytes ?? 0)))"
        ),
        ("vCPUs", String(domain.vcpus)),
        ("Key id", formatted(keyID: domain.keyID, emulated: domain.emulated)),
        ("Holder", "pid \(domain.holderPID)"),
        ("Firmware", domain.firmware.map(printable) ?? "none"),
    ]
    if let will = domain.lastWill { fields.append(("Last will", words(will))) }
    if let mrtd = domain.mrtd {
        let half = printable(mrtd)
        fields.append(("MRTD", String(half.prefix(48))))
        fields.append(("", String(half.dropFirst(48))))
    } else {
        fields.append(("MRTD", "not yet finalized"))
    }
    if let numa = domain.numa {
        fields.append(("NUMA", words(numa)))
        if let reason = numa.reason { fields.append(("", style.doubtful("not applied to ") + printable(reason))) }
    }
    fields.append(("Created", printable(domain.createdAt)))
    fields.append(("Owner", "uid \(domain.ownerUID)"))
    return renderFields(fields, style)
}

/// "bind 0,1: private and shared memory"
private func words(_ numa: NUMAPlacement) -> String {
    let nodes = numa.nodes.reduce(into: NodeSet()) { if NodeSet.numbers.contains($1) { $0.insert(.node($1)) } }
    let sides = [numa.privateApplied ? "private" : nil, numa.sharedApplied ? "shared" : nil].compactMap { $0 }
    let scope = sides.isEmpty ? "no memory" : sides.joined(separator: " and ") + " memory"
    return "\(numa.policy.rawValue) \(nodes): \(scope)"
}

func words(_ will: LastWillState) -> String {
    switch will {
    case .armed: "armed: the TD is terminated even when its holder is killed"
    case .rehearsal: "rehearsal (emulated): when its holder is killed, KVM is asked and nothing is terminated"
    }
}

func backendInFull(_ backend: Backend, emulated: Bool) -> String {
    emulated ? "\(backend.rawValue) (emulated: the TDX module is software, the memory is real)" : backend.rawValue
}

/// What `tdxctl convert` did.
func render(_ conversion: ManagerInterface.Convert.Reply) -> String {
    let end = conversion.gpa &+ conversion.bytes
    return """
        \(printable(conversion.name)): \(formatted(address: conversion.gpa))–\(formatted(address: end)) \
        (\(formatted(bytes: conversion.bytes))) is \(conversion.to.rawValue)
        \(formatted(bytes: conversion.changedBytes)) changed side, \(formatted(bytes: conversion.discardedBytes)) \
        discarded, in \(formatted(milliseconds: conversion.milliseconds)) \
        [\(formatted(backend: conversion.backend, emulated: conversion.emulated))]

        """
}
