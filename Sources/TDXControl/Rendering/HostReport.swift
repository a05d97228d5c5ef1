internal import ControlInterface

/// The tree of `tdxctl ok`.
func render(_ report: HostReport, _ style: Style) -> String {
    var root = CheckNode(name: "")
    for check in report.checks { root.insert(check, at: check.name.split(separator: "/")[...]) }
    let widths = root.titleWidths(depth: 0)
    var text = ""
    for child in root.children { text += child.rendered(prefix: "", childPrefix: "", width: widths, style) }
    var counts: [CheckResult: Int] = [:]
    for check in report.checks { counts[check.result, default: 0] += 1 }
    text += """

        \(counts[.pass] ?? 0) pass, \(counts[.skip] ?? 0) skip, \(counts[.fail] ?? 0) fail
        Backend: \(style.bold(backendInFull(report.backend, emulated: report.emulated)))
        Because: \(printable(report.reason))

        """
    return text
}

/// A place in the tree: a check, a group of checks, or both.
private struct CheckNode {
    var name: String
    var check: HostCheck?
    var children: [CheckNode] = []

    mutating func insert(_ check: HostCheck, at path: ArraySlice<Substring>) {
        guard let first = path.first else {
            self.check = check
            return
        }
        if let index = children.firstIndex(where: { $0.name == first }) {
            children[index].insert(check, at: path.dropFirst())
        } else {
            var child = CheckNode(name: String(first))
            child.insert(check, at: path.dropFirst())
            children.append(child)
        }
    }

    private var title: String { printable(check?.title ?? name) }

    /// How wide titles are, indentation included.
    func titleWidths(depth: Int) -> Int {
        children.reduce(0) { width, child in
            max(width, child.check == nil ? 0 : child.title.count + 3 * depth, child.titleWidths(depth: depth + 1))
        }
    }

    func rendered(prefix: String, childPrefix: String, width: Int, _ style: Style) -> String {
        var text: String
        if let check {
            let gap = String(repeating: " ", count: max(0, width - prefix.count - title.count) + 2)
            text = prefix + title + gap + label(check.result, style) + "  " + printable(check.evidence) + "\n"
            if let hint = check.hint {
                let bar = children.isEmpty ? childPrefix : childPrefix + "│"
                let blanks = String(repeating: " ", count: max(0, width - bar.count) + 2)
                text += bar + blanks + style.dim("      hint: " + printable(hint)) + "\n"
            }
        } else {
            text = prefix + style.bold(title) + "\n"
        }
        for (index, child) in children.enumerated() {
            let isLast = index == children.count - 1
            text += child.rendered(
                prefix: childPrefix + (isLast ? "└─ " : "├─ "), childPrefix: childPrefix + (isLast ? "   " : "│  "),
                width: width, style)
        }
        return text
    }

    private func label(_ result: CheckResult, _ style: Style) -> String { paintedLabel(result, style) }
}

private func paintedLabel(_ result: CheckResult, _ style: Style) -> String {
    switch result {
    case .pass: style.good("PASS")
    case .skip: style.doubtful("SKIP")
    case .fail: style.bad("FAIL")
    }
}

/// One step of the self-test, as it ends.
func render(_ step: SelfTestStep, _ style: Style) -> String {
    "\(paintedLabel(step.result, style))  \(printable(step.name)) (\(formatted(milliseconds: step.milliseconds))): "
        + printable(step.evidence) + "\n"
}

/// The self-test's verdict.
func renderVerdict(_ reply: ManagerInterface.SelfTest.Reply, _ style: Style) -> String {
    let steps = reply.steps ?? []
    let failed = steps.count { $0.result == .fail }
    let backend = reply.backend.map { text in
        Backend(rawValue: text).map { formatted(backend: $0, emulated: $0.isEmulated) } ?? printable(text)
    }
    let verdict =
        if failed > 0 || reply.passed == false {
            style.bad("FAILED") + ": \(failed) of \(steps.count) steps failed"
        } else if steps.allSatisfy({ $0.result == .skip }) {
            style.doubtful("SKIPPED") + ": this host can run none of the steps"
        } else {
            style.good("PASSED") + ": \(steps.count { $0.result == .pass }) of \(steps.count) steps"
        }
    return verdict + (backend.map { " [\($0)]" } ?? "") + "\n"
}
