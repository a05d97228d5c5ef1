internal import ControlInterface
internal import TDXStatusCodes

/// A teardown certificate as people read it.
func render(_ certificate: TeardownCertificate, _ style: Style) -> String {
    var text = style.bold("Teardown certificate of \(printable(certificate.name))") + "\n"
    text += renderFields(
        [
            ("Id", printable(certificate.id)),
            ("Backend", backendInFull(certificate.backend, emulated: certificate.emulated)),
            ("Policy", printable(certificate.policy)),
            ("Path", printable(certificate.path.rawValue)),
            ("Holder", certificate.holderDied ? "had died; tdxd gave its memory back" : "ended in order"),
            (
                "Released",
                "\(formatted(bytes: certificate.releasedBytes)) of a TD of \(formatted(bytes: certificate.memoryBytes))"
            ),
            ("Key id", formatted(keyID: certificate.keyID, emulated: certificate.emulated)),
            ("Began", printable(certificate.startedAt)),
            ("Took", formatted(milliseconds: certificate.milliseconds)),
        ] + (certificate.pageReset.map { [("Page reset", printable($0))] } ?? []), indent: "  ", style)
    text += "\n" + indented(phaseTable(certificate.phases).rendered(style)) + "\n"
    if !certificate.proofs.isEmpty { text += indented(proofTable(certificate.proofs).rendered(style)) + "\n" }
    if let failure = certificate.failure { text += style.bad("Failure: ") + printable(failure) + "\n" }
    if let status = certificate.tdxStatus.flatMap({ TDXStatus(hexadecimal: $0) }) {
        text += style.bad("TDX status: ") + "\(status); “tdxctl explain \(status.hexadecimal)” explains it\n"
    }
    let missing = certificate.proofs.count { !$0.holds }
    if let pending = certificate.pending {
        text += style.bold("PENDING") + ": the TD runs no more, but its end is not over: \(printable(pending)).\n"
    } else if certificate.complete {
        let isPartial = certificate.proofs.contains { $0.unseen != nil }
        text +=
            style.good("COMPLETE")
            + (isPartial
                ? ": every proof holds as far as tdxd could see; nothing of the TD was found on this host.\n"
                : ": every proof holds; nothing of the TD is left on this host.\n")
    } else if certificate.proofs.isEmpty {
        text += style.bad("INCOMPLETE") + ": nothing was proven.\n"
    } else if missing == 0 {
        text += style.bad("INCOMPLETE") + ": every proof holds, but the teardown failed.\n"
    } else {
        text += style.bad("INCOMPLETE") + ": \(missing) of \(certificate.proofs.count) proofs do not hold.\n"
    }
    return text
}

/// What `tdxctl stop` prints of an end: one line.
func summary(of certificate: TeardownCertificate, _ style: Style) -> String {
    let name = style.bold(printable(certificate.name))
    let more = "; “tdxctl certificate show \(printable(certificate.name))” has more"
    let returned =
        "\(formatted(bytes: certificate.releasedBytes)) given back in \(formatted(milliseconds: certificate.milliseconds))"
    let label = certificate.emulated ? " [\(formatted(backend: certificate.backend, emulated: true))]" : ""
    if let failure = certificate.failure {
        return "\(name): \(style.bad("FAILED")): \(printable(failure))\(more)\n"
    }
    if let pending = certificate.pending {
        return "\(name): \(style.bold("stopped")), not over: \(printable(pending))\n"
    }
    let open = certificate.proofs.filter { !$0.holds }.map { printable($0.name) }
    guard certificate.complete else {
        let what = open.isEmpty ? "nothing was proven" : "not proven: " + open.joined(separator: ", ")
        return "\(name): \(style.bad("INCOMPLETE")): \(what)\(more)\n"
    }
    let scope = certificate.proofs.contains { $0.unseen != nil } ? "all proven as far as tdxd could see" : "all proven"
    return "\(name): \(style.good("ended")), \(returned), \(scope)\(label)\n"
}

/// The table of `tdxctl certificate list`.
func render(_ certificates: [CertificateSummary], _ style: Style) -> String {
    guard !certificates.isEmpty else { return "There are no certificates.\n" }
    var table = Table(
        ("NAME", .left), ("ID", .left), ("BEGAN", .left), ("TOOK", .right), ("RELEASED", .right), ("PATH", .left),
        ("VERDICT", .left), ("BACKEND", .left))
    for certificate in certificates {
        table.add([
            .init(text: printable(certificate.name), paint: .bold), .init(text: printable(certificate.id)),
            .init(text: printable(certificate.startedAt)),
            .init(text: formatted(milliseconds: certificate.milliseconds)),
            .init(text: formatted(bytes: certificate.releasedBytes)), .init(text: printable(certificate.path.rawValue)),
            .init(
                text: verdict(certificate) + (certificate.holderDied ? ", holder died" : ""),
                paint: certificate.complete ? .good : certificate.pending == nil ? .bad : .bold),
            .init(text: formatted(backend: certificate.backend, emulated: certificate.emulated)),
        ])
    }
    return table.rendered(style)
}

private func verdict(_ certificate: CertificateSummary) -> String {
    if certificate.complete { return "complete" }
    return certificate.pending == nil ? "INCOMPLETE" : "PENDING"
}

private func phaseTable(_ phases: [TeardownPhase]) -> Table {
    var table = Table(("PHASE", .left), ("TIME", .right), ("BYTES", .right), ("CALLS", .right), ("DETAIL", .left))
    for phase in phases {
        table.add([
            .init(text: printable(phase.name.rawValue)), .init(text: formatted(milliseconds: phase.milliseconds)),
            .init(text: phase.bytes == 0 ? "–" : formatted(bytes: phase.bytes)),
            .init(text: phase.calls == 0 ? "–" : String(phase.calls)), .init(text: printable(phase.detail ?? "")),
        ])
    }
    return table
}

private func proofTable(_ proofs: [TeardownProof]) -> Table {
    var table = Table(("PROOF", .left), ("HOLDS", .left), ("EVIDENCE", .left))
    for proof in proofs {
        table.add([
            .init(text: printable(proof.name)),
            .init(
                text: proof.holds ? proof.unseen == nil ? "yes" : "as seen" : "NO",
                paint: proof.holds ? proof.unseen == nil ? .good : .bold : .bad),
            .init(text: printable(proof.evidence + (proof.unseen.map { "; not seen: \($0)" } ?? ""))),
        ])
    }
    return table
}

func indented(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false)
        .map { line in
            let trimmed = line.lastIndex { $0 != " " }.map { line[...$0] } ?? ""
            return trimmed.isEmpty ? "" : "  " + trimmed
        }
        .joined(separator: "\n")
}
