internal import ControlInterface
internal import MemoryUnits
internal import Varlink

/// `tdxctl stop --dry-run --json`: the plan, and the model's figures for its path on hardware.
struct StopPlanRecord: Encodable {
    var plan: JSONValue
    var estimate: TeardownEstimate?

    init(_ plan: ManagerInterface.PlanStop.Reply) {
        self.plan = completedReply(plan, of: "PlanStop")
        estimate = TeardownEstimate(plan)
    }

    func encode(to encoder: any Encoder) throws {
        try plan.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(estimate, forKey: .estimate)
    }

    enum CodingKeys: String, CodingKey { case estimate }
}

extension TeardownEstimate {
    /// Nil where not all memory could be counted, or tdxd names a path that this program does not know.
    init?(_ plan: ManagerInterface.PlanStop.Reply) {
        guard let bytes = plan.residentPrivateBytes, let path = TeardownModel.Path(rawValue: plan.path.rawValue),
            plan.vcpus > 0
        else { return nil }
        self.init(memory: ByteCount(bytes), vcpus: plan.vcpus, erratum: plan.erratum ?? true, paths: [path])
    }
}

/// What a stop would do, step by step.
func render(_ plan: ManagerInterface.PlanStop.Reply, _ style: Style) -> String {
    let terminate =
        switch plan.terminate {
        case .present: "announced by the kernel"
        case .absent: "absent"
        case .unknown: "not announced: the call will show"
        }
    func size(_ bytes: UInt64?) -> String { bytes.map { formatted(bytes: $0) } ?? "unknown" }
    var text = style.bold("Plan of the end of \(printable(plan.name))") + "; nothing was changed\n"
    text += renderFields(
        [
            ("Backend", backendInFull(plan.backend, emulated: plan.emulated)),
            ("Policy", printable(plan.policy)),
            ("Path", printable(plan.path.rawValue)),
            ("Terminate", terminate),
            ("Last will", plan.lastWill.map(words) ?? "none: when its holder is killed, the TD is not terminated"),
            (
                "Resident",
                "private \(size(plan.residentPrivateBytes)), shared \(size(plan.residentSharedBytes)), "
                    + "of a TD of \(formatted(bytes: plan.memoryBytes))"
            ),
        ] + (plan.pageReset.map { [("Page reset", printable($0))] } ?? []), indent: "  ", style)
    var table = Table(("STEP", .left), ("BYTES", .right), ("DETAIL", .left))
    for step in plan.steps {
        table.add([
            .init(text: printable(step.name)), .init(text: step.bytes == 0 ? "–" : formatted(bytes: step.bytes)),
            .init(text: printable(step.detail)),
        ])
    }
    text += "\n" + indented(table.rendered(style)) + "\n"
    if let estimate = TeardownEstimate(plan), let row = estimate.estimates.first {
        text +=
            style.bold("MODEL") + ", not a measurement: on TDX hardware \(formatted(longSeconds: row.seconds)) "
            + "at most; see “tdxctl estimate”.\n"
    }
    return text
}
