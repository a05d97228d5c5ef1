internal import ControlInterface

/// Blocks that people are shown.
private let shownBlocks = 8

/// Counts, distributions, hot blocks, the last conversions, and how it stands with storms.
func render(_ found: ManagerInterface.Conversions.Reply, _ style: Style) -> String {
    let backend = " [\(formatted(backend: found.backend, emulated: found.emulated))]\n"
    guard found.directions.contains(where: { $0.count > 0 }) else {
        return "Nothing was converted since the TD was made." + backend
    }
    var parts = [table(of: found.directions).rendered(style)]
    if !found.hottest.isEmpty { parts.append(table(of: found.hottest).rendered(style)) }
    if !found.conversions.isEmpty { parts.append(table(of: found.conversions).rendered(style)) }
    return parts.joined(separator: "\n") + "\n" + words(found.storm, style) + backend
}

private func table(of directions: [ConversionDirection]) -> Table {
    var table = Table(
        ("TO", .left), ("COUNT", .right), ("CHANGED", .right), ("DISCARDED", .right), ("FAILED", .right),
        ("CANCELLED", .right), ("MERGED", .right), ("", .left), ("MEDIAN", .right), ("90 %", .right), ("99 %", .right),
        ("MOST", .right))
    for direction in directions {
        let sizes = direction.sizeBytes
        let times = direction.microseconds
        func row(_ first: [Table.Cell], _ what: String, _ values: ValueDistribution, _ text: (UInt64) -> String) {
            let numbers = [values.median, values.percentile90, values.percentile99, values.maximum]
            table.add(
                first + [.init(text: what)] + numbers.map { .init(text: direction.count > 0 ? text($0) : "–") })
        }
        row(
            [
                .init(text: direction.to.rawValue), .init(text: String(direction.count)),
                .init(text: formatted(bytes: direction.changedBytes)),
                .init(text: formatted(bytes: direction.discardedBytes)),
                .init(text: String(direction.failures), paint: direction.failures > 0 ? .bad : .none),
                .init(text: String(direction.cancelled)), .init(text: String(direction.merged)),
            ], "size", sizes, formatted(bytes:))
        row([Table.Cell](repeating: .init(text: ""), count: 7), "time", times, formatted(microseconds:))
    }
    return table
}

private func table(of blocks: [ConversionHotBlock]) -> Table {
    var table = Table(("HOTTEST", .left), ("END", .left), ("CONVERSIONS", .right))
    for block in blocks.prefix(shownBlocks) {
        table.add([
            .init(text: formatted(address: block.gpa)), .init(text: formatted(address: block.gpa &+ block.bytes)),
            .init(text: String(block.conversions)),
        ])
    }
    return table
}

private func table(of conversions: [ConversionAccount]) -> Table {
    var table = Table(
        ("NO", .right), ("ENDED", .left), ("START", .left), ("SIZE", .right), ("TO", .left), ("BY", .left),
        ("REQUESTS", .right), ("DISCARDED", .right), ("TOOK", .right), ("OUTCOME", .left))
    for conversion in conversions {
        table.add([
            .init(text: String(conversion.number)), .init(text: printable(conversion.endedAt)),
            .init(text: formatted(address: conversion.gpa)), .init(text: formatted(bytes: conversion.bytes)),
            .init(text: conversion.to.rawValue), .init(text: conversion.origin.rawValue),
            .init(text: String(conversion.requests)), .init(text: formatted(bytes: conversion.discardedBytes)),
            .init(text: formatted(microseconds: conversion.microseconds)), outcome(conversion),
        ])
    }
    return table
}

private func outcome(_ conversion: ConversionAccount) -> Table.Cell {
    let why = conversion.reason.map { ": " + printable($0) } ?? ""
    switch conversion.outcome {
    case .done: return .init(text: "done")
    case .cancelled: return .init(text: "cancelled" + why, paint: .doubtful)
    case .failed: return .init(text: "FAILED" + why, paint: .bad)
    }
}

private func words(_ storm: ConversionStorm, _ style: Style) -> String {
    let rule = "more than \(storm.conversions) in \(formatted(milliseconds: Double(storm.windowMilliseconds)))"
    let count = "\(storm.storms) storm\(storm.storms == 1 ? "" : "s") since the TD was made (\(rule))"
    guard let since = storm.since else { return count }
    return style.bad("STORM") + " since \(printable(since)); " + count
}

private func formatted(microseconds: UInt64) -> String { formatted(milliseconds: Double(microseconds) / 1000) }
