internal import ControlInterface
internal import MemoryUnits

/// The runs of `tdxctl map`, and their sums.
func render(_ map: ManagerInterface.Map.Reply, _ style: Style) -> String {
    var table = Table(("START", .left), ("END", .left), ("SIZE", .right), ("ATTRIBUTE", .left))
    for run in map.runs {
        table.add([
            .init(text: formatted(address: run.gpa)), .init(text: formatted(address: run.gpa &+ run.bytes)),
            .init(text: formatted(bytes: run.bytes)), .init(text: run.attribute.rawValue),
        ])
    }
    return table.rendered(style) + summary(of: map)
}

/// A map as cells of equal size, at most 512 of them and 64 a line, and its sums. Each piece of guest memory that is not
/// next to another begins a line.
func renderStrip(_ map: ManagerInterface.Map.Reply, _ style: Style) -> String {
    let total = map.runs.reduce(UInt64(0)) { $0.addingSaturated($1.bytes) }
    guard total > 0 else { return summary(of: map) }
    var cell: UInt64 = 4096
    while cell < total / 512, cell < 1 << 62 { cell <<= 1 }
    var text = ""
    for region in regions(of: map.runs) {
        var glyphs: [(character: Character, paint: Paint)] = []
        var run = region.startIndex
        var position = region[run].gpa
        let end = region[region.endIndex - 1].gpa &+ region[region.endIndex - 1].bytes
        while position < end, glyphs.count < 4096 {
            let next = min(end, position.addingSaturated(cell))
            var found: Set<PageAttribute> = []
            while run < region.endIndex, region[run].gpa < next {
                found.insert(region[run].attribute)
                guard region[run].gpa &+ region[run].bytes <= next else { break }
                run += 1
            }
            glyphs.append(glyph(found))
            position = next
        }
        for (line, first) in stride(from: 0, to: glyphs.count, by: 64).enumerated() {
            let start = region[region.startIndex].gpa.addingSaturated(UInt64(line) * 64 * cell)
            let cells = glyphs[first..<min(first + 64, glyphs.count)]
            text += style.dim(formatted(address: start)) + "  "
            text += cells.map { style.painted(String($0.character), $0.paint) }.joined() + "\n"
        }
    }
    return text + "# private  . shared  ~ converting  + several; a cell is \(formatted(bytes: cell))\n"
        + summary(of: map)
}

private func glyph(_ attributes: Set<PageAttribute>) -> (Character, Paint) {
    guard attributes.count == 1, let only = attributes.first else { return ("+", .doubtful) }
    return switch only {
    case .private: ("#", .good)
    case .shared: (".", .none)
    case .convertingToPrivate, .convertingToShared: ("~", .bad)
    }
}

/// Runs that follow each other without a gap.
private func regions(of runs: [MemoryRun]) -> [ArraySlice<MemoryRun>] {
    var result: [ArraySlice<MemoryRun>] = []
    var first = runs.startIndex
    for index in runs.indices.dropFirst() where runs[index].gpa != runs[index - 1].gpa &+ runs[index - 1].bytes {
        result.append(runs[first..<index])
        first = index
    }
    if first < runs.endIndex { result.append(runs[first...]) }
    return result
}

private func summary(of map: ManagerInterface.Map.Reply) -> String {
    var sums: [PageAttribute: UInt64] = [:]
    for run in map.runs { sums[run.attribute] = (sums[run.attribute] ?? 0).addingSaturated(run.bytes) }
    let parts = PageAttribute.allCases.compactMap { attribute in
        sums[attribute].map { "\(formatted(bytes: $0)) \(attribute.rawValue)" }
    }
    return "\(map.runs.count) run\(map.runs.count == 1 ? "" : "s"): "
        + (parts.isEmpty ? "no memory" : parts.joined(separator: ", "))
        + " [\(formatted(backend: map.backend, emulated: map.emulated))]\n"
}
