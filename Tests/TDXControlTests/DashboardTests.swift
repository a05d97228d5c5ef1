import ControlInterface
import FoundationEssentials
import LinuxSystem
import Testing

@testable import TDXControl

/// config/grafana-dashboard.json
@Suite struct DashboardTests {
    private struct Dashboard: Decodable {
        struct Panel: Decodable {
            struct Target: Decodable { var expr: String }
            struct Position: Decodable { var h, w, x, y: Int }
            var id: Int
            var title: String
            var gridPos: Position
            var targets: [Target]
        }
        var panels: [Panel]
    }

    private static let path =
        #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 } + "/config/grafana-dashboard.json"

    /// Metrics that tdxd has.
    private static var families: Set<String> {
        let metrics = Metrics(
            domains: [], keys: .init(backend: .memfd, capacity: 2, keys: []), certificates: [],
            drain: DrainStatus(
                backend: .memfd, purpose: nil, since: nil, building: 0, running: 0, ending: 0, privateBytes: 0,
                convertingBytes: 0, keysTaken: 0, blockers: [], ended: []))
        return Set(
            metrics.text.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
                .map { String($0.split(separator: " ")[2]) })
    }

    private static func names(in expression: String) -> Set<String> {
        Set(
            expression.split { !($0.isLetter || $0.isNumber || $0 == "_") }.filter { $0.hasPrefix("tdxd_") }
                .map { String($0) })
    }

    @Test func `the dashboard shows every metric, and none that there is not`() throws {
        let text = try TextFile.read(Self.path)
        let dashboard = try JSONDecoder().decode(Dashboard.self, from: Data(text.utf8))
        let shown = dashboard.panels.flatMap(\.targets).reduce(into: Set<String>()) {
            $0.formUnion(Self.names(in: $1.expr))
        }
        #expect(shown == Self.families)
    }

    @Test func `panels have numbers of their own and do not lie on one another`() throws {
        let dashboard = try JSONDecoder().decode(Dashboard.self, from: Data(TextFile.read(Self.path).utf8))
        #expect(Set(dashboard.panels.map(\.id)).count == dashboard.panels.count)
        var cells: Set<[Int]> = []
        for panel in dashboard.panels {
            let place = panel.gridPos
            #expect(place.x + place.w <= 24, "\(panel.title)")
            for x in place.x..<place.x + place.w {
                for y in place.y..<place.y + place.h { #expect(cells.insert([x, y]).inserted, "\(panel.title)") }
            }
        }
    }
}
