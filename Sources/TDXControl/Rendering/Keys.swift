internal import ControlInterface

/// The pool of key ids, and a row for each that is not free.
func render(_ keys: ManagerInterface.GetKeys.Reply, _ style: Style) -> String {
    var text = ""
    if !keys.keys.isEmpty {
        var table = Table(("KEY", .right), ("USE", .left), ("NAME", .left), ("ID", .left))
        for key in keys.keys {
            table.add([
                .init(text: key.keyID.map { String($0) } ?? "–"),
                .init(text: words(key.use), paint: key.use == .inUse ? .good : .doubtful),
                .init(text: key.name.map(printable) ?? "–"), .init(text: printable(key.id)),
            ])
        }
        text += table.rendered(style)
    }
    var parts = (keys.free.map { ["\($0) free"] } ?? []) + ["\(keys.inUse) in use"]
    if keys.reserved > 0 { parts.append("\(keys.reserved) reserved") }
    if keys.draining > 0 { parts.append("\(keys.draining) draining") }
    let capacity =
        keys.capacity.map { "\($0) key id\($0 == 1 ? "" : "s")" } ?? "key ids, how many there are is not known"
    return text + "\(capacity): " + parts.joined(separator: ", ")
        + " [\(formatted(backend: keys.backend, emulated: keys.emulated))]\n"
}

private func words(_ use: KeyUse) -> String {
    switch use {
    case .reserved: "reserved"
    case .inUse: "in use"
    case .draining: "draining"
    }
}
