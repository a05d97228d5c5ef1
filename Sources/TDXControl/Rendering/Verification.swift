internal import ControlInterface

/// The double-resident ranges, and their sum.
func render(_ found: ManagerInterface.Verify.Reply, _ style: Style) -> String {
    let backend = " [\(formatted(backend: found.backend, emulated: found.emulated))]\n"
    let effort = "\(formatted(bytes: found.checkedBytes)) looked at in \(formatted(milliseconds: found.milliseconds))"
    guard !found.ranges.isEmpty else { return "Nothing is double-resident; \(effort)" + backend }
    var table = Table(("START", .left), ("END", .left), ("SIZE", .right), ("WASTED", .right), ("SIDE", .left))
    for range in found.ranges {
        table.add([
            .init(text: formatted(address: range.gpa)), .init(text: formatted(address: range.gpa &+ range.bytes)),
            .init(text: formatted(bytes: range.bytes)), .init(text: formatted(bytes: range.wastedBytes)),
            .init(text: range.wasted.rawValue),
        ])
    }
    let sum =
        "\(formatted(bytes: found.wastedBytes)) in \(found.ranges.count) range\(found.ranges.count == 1 ? "" : "s")"
    return table.rendered(style)
        + (found.reclaimed ? style.good("Freed") + " \(sum)" : style.doubtful("Double-resident") + ": \(sum)")
        + "; \(effort)" + backend
}
