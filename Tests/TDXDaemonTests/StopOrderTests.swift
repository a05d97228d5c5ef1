import ControlInterface
import MemoryUnits
import ServiceSupport
import Testing

@testable import TDXDaemon

@Suite struct StopOrderTests {
    private struct Raw: Encodable {
        var name = "web1"
        var policy: String?
        var bytes_per_second: Int64?
        var chunk_bytes: Int64?
        var deadline_ms: Int64?
        var wait: String?
    }

    private static let refused: [(String, Raw)] = [
        ("name", Raw(name: "Web1")), ("policy", Raw(policy: "at-once")),
        ("bytes_per_second", Raw(bytes_per_second: 0)), ("bytes_per_second", Raw(bytes_per_second: -1)),
        ("bytes_per_second", Raw(bytes_per_second: (1 << 20) - 1)),
        ("bytes_per_second", Raw(bytes_per_second: (1 << 40) + 1)),
        ("chunk_bytes", Raw(chunk_bytes: 0)), ("chunk_bytes", Raw(chunk_bytes: 3 << 20)),
        ("chunk_bytes", Raw(chunk_bytes: 66 << 20)), ("deadline_ms", Raw(deadline_ms: 999)),
        ("deadline_ms", Raw(deadline_ms: .max)), ("wait", Raw(wait: "long")),
    ]

    private static func order(_ raw: Raw) throws -> StopOrder { try OrderTests.decoded(StopOrder.self, raw) }

    @Test func `what cannot be is refused by the field's name`() {
        for (expected, raw) in Self.refused {
            guard case .invalidField(let field, _, _) = refusal({ _ = try Self.order(raw) }) else {
                Issue.record("\(raw) passes")
                continue
            }
            #expect(field == expected)
        }
    }

    @Test func `what a client leaves open the configuration says`() throws {
        var teardown = TDXDConfiguration().teardown
        let plain = try Self.order(Raw())
        #expect(try plain.resolved(teardown) == .init(policy: .auto, wait: .proven))
        teardown.policy = .deferred
        teardown.wait = .proven
        #expect(try plain.resolved(teardown).isHeld)
        #expect(try plain.resolved(teardown).wait == .stopped)
        teardown.rate = .mebibytes(5)
        #expect(try !plain.resolved(teardown).isHeld)
        #expect(try plain.resolved(teardown).pace == 5 << 20)
        let full = try Self.order(
            Raw(
                policy: "dynamic-removal", bytes_per_second: 1 << 30, chunk_bytes: 4 << 20, deadline_ms: 1500,
                wait: "stopped"))
        #expect(
            try full.resolved(teardown)
                == .init(
                    policy: .dynamicRemoval, pace: 1 << 30, chunk: 4 << 20, deadline: .milliseconds(1500),
                    wait: .stopped))
    }

    @Test func `nobody waits for the proof of what would never come`() throws {
        let order = try Self.order(Raw(policy: "deferred", wait: "proven"))
        let refused = refusal { _ = try order.resolved(TDXDConfiguration().teardown) }
        guard case .invalidField(field: "wait", value: "proven", _) = refused else {
            Issue.record("\(String(describing: refused))")
            return
        }
        var paced = order
        paced.bytesPerSecond = ReleaseRate(rawValue: 1 << 20)
        #expect(try paced.resolved(TDXDConfiguration().teardown).wait == .proven)
    }
}
