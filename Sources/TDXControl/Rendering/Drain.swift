internal import ControlInterface

func render(_ status: DrainStatus, _ style: Style) -> String {
    let backend = backendInFull(status.backend, emulated: status.emulated)
    guard let purpose = status.purpose else {
        return "The host is not being drained: new TDs are welcome. [\(backend)]\n"
    }
    var text = style.bold("Draining for \(purpose.words)") + " since \(printable(status.since ?? "–"))\n"
    text += renderFields(
        [
            ("TDs", "\(status.running) running, \(status.building) being built, \(status.ending) not proven back"),
            (
                "Memory",
                "\(formatted(bytes: status.privateBytes)) private, \(formatted(bytes: status.convertingBytes)) converting"
            ),
            ("Key ids", "\(status.keysTaken) taken"),
            ("Backend", backend),
        ], indent: "  ", style)
    if !status.ended.isEmpty {
        text += "\n" + style.bold("Ended since then") + "\n" + indented(render(status.ended, style)) + "\n"
    }
    if status.ready {
        text += style.good("READY") + ": nothing stands against it; “tdxctl drain --undo” lets new TDs in again.\n"
    } else {
        text += style.bad("NOT READY") + ": " + status.blockers.map { printable($0) }.joined(separator: "; ") + ".\n"
    }
    return text
}

func render(_ reply: ManagerInterface.CheckKexec.Reply, _ style: Style) -> String {
    var table = Table(("CHECK", .left), ("RESULT", .left), ("EVIDENCE", .left))
    for check in reply.checks {
        let paint: Paint = check.result == .pass ? .good : check.result == .fail ? .bad : .bold
        table.add([
            .init(text: printable(check.title)), .init(text: check.result.rawValue, paint: paint),
            .init(text: printable(check.evidence)),
        ])
    }
    var text = table.rendered(style)
    for check in reply.checks {
        let isOpen = check.result == .skip && check.name == ManagerInterface.CheckKexec.Reply.otherVMs
        if let hint = check.hint, check.result == .fail || isOpen {
            text += "hint: \(printable(check.title)): \(printable(hint))\n"
        }
    }
    var answers = Table(("ANSWER", .left), ("ALLOWS", .left), ("BECAUSE", .left))
    for answer in reply.answers {
        answers.add([
            .init(text: printable(answer.name.split(separator: "_").joined(separator: " "))),
            .init(text: answer.allows.map { $0 ? "yes" : "NO" } ?? "–"), .init(text: printable(answer.reason)),
        ])
    }
    text += "\n" + answers.rendered(style) + "\n"
    text +=
        reply.safe
        ? style.good("SAFE") + ": nothing stands against kexec. "
        : reply.isUnknown
            ? style.doubtful("UNKNOWN") + ": whether other programs' VMs have private memory cannot be seen. "
            : style.bad("NOT SAFE")
                + ": \(reply.checks.count { $0.result == .fail }) of \(reply.checks.count) checks fail. "
    return text + "[\(backendInFull(reply.backend, emulated: reply.emulated))]\n"
}
