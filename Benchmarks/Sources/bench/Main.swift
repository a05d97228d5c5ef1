import Glibc

/// `bench emulator|memory|teardown [--json] [--runs N] [--only TEXT]` – see docs/benchmarks.md.
@main
struct Bench {
    static func main() {
        var area: String?
        var (isJSON, runs, only) = (false, 5, "")
        var arguments = Array(CommandLine.arguments.dropFirst())
        while !arguments.isEmpty {
            let argument = arguments.removeFirst()
            switch argument {
            case "--json": isJSON = true
            case "--runs":
                guard let number = arguments.first.flatMap({ Int($0) }), number >= 1 else { usage() }
                arguments.removeFirst()
                runs = number
            case "--only":
                guard let text = arguments.first else { usage() }
                arguments.removeFirst()
                only = text
            default:
                guard area == nil, !argument.hasPrefix("-") else { usage() }
                area = argument
            }
        }
        guard let area, let groups = areas[area] else { usage() }
        var report = Report(area, runs: runs)
        for group in groups where only.isEmpty || group.name == only {
            note("\(area): \(group.name) …")
            do {
                try group.measure(&report)
            } catch {
                report.skip(group.name, "\(error)")
            }
        }
        do {
            print(isJSON ? try report.json() : report.table())
        } catch {
            note("\(error)")
            exit(1)
        }
    }

    /// Rows that share their preparation.
    struct Group {
        var name: String
        var measure: (inout Report) throws -> Void
    }

    static var areas: [String: [Group]] {
        [
            "memory": memoryArea,
            "emulator": emulatorArea,
            "teardown": teardownArea,
        ]
    }

    static func usage() -> Never {
        note("usage: bench emulator|memory|teardown [--json] [--runs N] [--only GROUP]")
        for (area, groups) in areas.sorted(by: { $0.key < $1.key }) {
            note("  \(area): \(groups.map(\.name).joined(separator: ", "))")
        }
        exit(64)
    }
}
