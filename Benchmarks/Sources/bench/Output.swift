import FoundationEssentials
import Glibc

/// What the figures were measured on.
struct Machine: Encodable {
    var kernel: String
    var processor: String
    var processors: Int
    var memory_bytes: UInt64
    /// Load average of the last minute when the program began: above the number of processors the times are disturbed.
    var load: Double

    init() {
        kernel = Self.text("/proc/sys/kernel/osrelease").trimmed
        processor =
            Self.text("/proc/cpuinfo").split(separator: "\n").first { $0.hasPrefix("model name") }
            .map { $0.split(separator: ":").dropFirst().joined(separator: ":").trimmed } ?? "unknown"
        processors = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        memory_bytes = UInt64(sysconf(Int32(_SC_PHYS_PAGES))) * UInt64(sysconf(Int32(_SC_PAGESIZE)))
        load = Double(Self.text("/proc/loadavg").split(separator: " ").first ?? "0") ?? 0
    }

    private static func text(_ path: String) -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var result = ""
        var buffer = [CChar](repeating: 0, count: 4096)
        while fgets(&buffer, Int32(buffer.count), file) != nil {
            let bytes = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            result += String(decoding: bytes, as: UTF8.self)
        }
        return result
    }
}

extension StringProtocol {
    fileprivate var trimmed: String {
        String(drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }
}

/// To standard error: what is being measured.
func note(_ text: String) {
    let line = text + "\n"
    line.withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
}

extension Report {
    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    /// A table, a line about the machine, and what was left out.
    func table() -> String {
        let head = ["what", "ours", "peer", "unit", "ratio", "target", "met", "against"]
        let cells = rows.map {
            [
                $0.what, short($0.ours), short($0.peer), $0.unit, short($0.ratio), $0.target, $0.met ? "yes" : "NO",
                $0.against,
            ]
        }
        let widths = head.indices.map { column in ([head] + cells).map { $0[column].count }.max() ?? 0 }
        func line(_ row: [String]) -> String {
            row.enumerated().map { index, cell in
                let space = String(repeating: " ", count: widths[index] - cell.count)
                return (1...2).contains(index) || index == 4 ? space + cell : cell + space
            }.joined(separator: "  ").trimmedRight
        }
        var lines = [
            "\(area): Linux \(machine.kernel), \(machine.processors) × \(machine.processor), "
                + "\(machine.memory_bytes >> 30) GiB, load \(machine.load), medians of \(runs) runs", "", line(head),
        ]
        lines += cells.map(line)
        lines += skipped.map { "skipped: \($0)" }
        lines.append("\(rows.filter(\.met).count) of \(rows.count) rows meet their target")
        return lines.joined(separator: "\n")
    }
}

extension String {
    fileprivate var trimmedRight: String { String(reversed().drop { $0 == " " }.reversed()) }
}
