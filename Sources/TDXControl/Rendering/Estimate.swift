/// The model's figures, labelled as such.
func render(_ estimate: TeardownEstimate, _ style: Style) -> String {
    var text = style.bold("MODEL") + ", not a measurement: \(estimate.basis).\n"
    text +=
        "The end of a TD with \(formatted(bytes: estimate.memoryBytes)) of private memory resident "
        + "and \(estimate.vcpus) vCPU\(estimate.vcpus == 1 ? "" : "s"):\n"
    var table = Table(("PATH", .left), ("TIME", .right), ("AT BEST", .right), ("PER PAGE", .right))
    for row in estimate.estimates {
        table.add([
            .init(text: row.path), .init(text: formatted(longSeconds: row.seconds), paint: .bold),
            .init(text: formatted(longSeconds: row.secondsAtBest)),
            .init(text: formatted(milliseconds: row.microsecondsPerPage / 1000)),
        ])
    }
    text += table.rendered(style)
    text +=
        estimate.erratum
        ? "The kernel resets every reclaimed page, which is in these times: the CPU has the partial-write erratum.\n"
        : "At best: on a CPU without the partial-write erratum the kernel leaves the reset of reclaimed pages out, which saves up to 40 %.\n"
    if estimate.extrapolated {
        text += "No time was posted for more than \(TeardownModel.mostPostedVCPUs) vCPUs: this is extrapolated.\n"
    }
    return text + render(estimate.history, style)
}

/// A time that may be hours, such as "1 h 32 min", "7 min 47 s" and "2.4 s".
func formatted(longSeconds seconds: Double) -> String {
    guard seconds >= 60, seconds.isFinite, seconds < 1e15 else { return formatted(milliseconds: seconds * 1000) }
    let whole = Int64(seconds.rounded())
    guard whole >= 3600 else { return "\(whole / 60) min \(whole % 60) s" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
}
