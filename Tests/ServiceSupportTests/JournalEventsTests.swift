import LinuxSystem
import Logging
import Testing

@testable import ServiceSupport

@Suite struct JournalEventsTests {
    static let root = String(#filePath.split(separator: "/Tests/")[0])

    @Test func `the catalog explains every kind of event, and no other`() throws {
        let catalog = try TextFile.read(Self.root + "/systemd/tdxd.catalog")
        let explained = catalog.split(separator: "\n").filter { $0.hasPrefix("-- ") }.map { String($0.dropFirst(3)) }
        #expect(explained.sorted() == JournalEvents.ids.values.sorted())
        #expect(Set(explained).count == explained.count)
        #expect(explained.allSatisfy { $0.count == 32 && $0.allSatisfy(\.isHexDigit) })
    }

    @Test func `every kind of event is logged somewhere, in these words`() throws {
        func sources(_ directory: String) throws -> [String] {
            try TextFile.list(directory).flatMap { name in
                let path = directory + "/" + name
                if name.hasSuffix(".swift") { return [try TextFile.read(path)] }
                return (try? sources(path)) ?? []
            }
        }
        let text = try ["TDXDaemon", "TDHolder"].flatMap { try sources(Self.root + "/Sources/" + $0) }.joined()
        for message in JournalEvents.ids.keys { #expect(text.contains("\"\(message)\""), "\(message)") }
    }

    @Test func `a record of such an event has its MESSAGE_ID, others have none`() throws {
        func fields(_ message: String) -> [String] {
            LogRecord(
                label: "l", identifier: "i", level: .info, message: message, metadata: [], file: "f", function: "g",
                line: 1
            ).journalFields
        }
        let id = try #require(JournalEvents.ids["a TD is runnable"])
        #expect(fields("a TD is runnable").contains("MESSAGE_ID=\(id)"))
        #expect(!fields("something else").contains { $0.hasPrefix("MESSAGE_ID") })
    }
}
