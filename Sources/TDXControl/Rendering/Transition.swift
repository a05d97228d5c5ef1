internal import TransitionModel

/// What the explorer found, for `tdxctl model transition`.
func render(_ reports: [TransitionReport], _ style: Style) -> String {
    var table = Table(
        ("PROTOCOL", .left), ("RESULT", .left), ("STATES", .right), ("TLB FLUSHES", .right),
        ("TABLE WRITES/PAGE", .right))
    for report in reports {
        table.add([
            .init(text: report.name),
            .init(text: report.safe ? "safe" : "unsafe", paint: report.safe ? .good : .bad),
            .init(text: String(report.states)), .init(text: String(report.tlbFlushes)),
            .init(text: String(report.pageTableTouches)),
        ])
    }
    var text = table.rendered(style) + "\n"
    for report in reports {
        text += style.bold(report.name) + ": " + report.summary + "\n"
        guard let path = report.counterexample else {
            text += "  safe in \(report.states) states\n"
            continue
        }
        text += "  the shortest interleaving that goes wrong:\n"
        for (number, step) in path.enumerated() { text += "  \(number == 0 ? "  " : "\(number).") \(step)\n" }
    }
    return text
}

/// `tdxctl model transition --json`.
struct TransitionRecord: Encodable {
    struct Row: Encodable {
        var name: String
        var summary: String
        var safe: Bool
        var states: Int
        var tlbFlushes: Int
        var pageTableTouches: Int
        var counterexample: [String]?

        init(_ report: TransitionReport) {
            name = report.name
            summary = report.summary
            safe = report.safe
            states = report.states
            tlbFlushes = report.tlbFlushes
            pageTableTouches = report.pageTableTouches
            counterexample = report.counterexample
        }

        enum CodingKeys: String, CodingKey {
            case name, summary, safe, states
            case tlbFlushes = "tlb_flushes"
            case pageTableTouches = "page_table_touches"
            case counterexample
        }

        /// A safe protocol has a null counterexample, not none.
        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(name, forKey: .name)
            try container.encode(summary, forKey: .summary)
            try container.encode(safe, forKey: .safe)
            try container.encode(states, forKey: .states)
            try container.encode(tlbFlushes, forKey: .tlbFlushes)
            try container.encode(pageTableTouches, forKey: .pageTableTouches)
            try container.encode(counterexample, forKey: .counterexample)
        }
    }

    var pages: Int
    var protocols: [Row]
}
