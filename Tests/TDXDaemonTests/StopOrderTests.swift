import ControlInterface
import MemoryUnits
import ServiceSupport
import Testing

@testable import TDXDaemon

@Suite struct StopOrderTests {
    typealias Parameters = ManagerInterface.Stop.Parameters

    static let flaws: [(String, Parameters)] = [
        ("name", Parameters(name: "Web1")),
        ("policy", Parameters(name: "web1", policy: "at-once")),
        ("bytes_per_second", Parameters(name: "web1", bytesPerSecond: 0)),
        ("bytes_per_second", Parameters(name: "web1", bytesPerSecond: -1)),
        ("bytes_per_second", Parameters(name: "web1", bytesPerSecond: (1 << 20) - 1)),
        ("bytes_per_second", Parameters(name: "web1", bytesPerSecond: (1 << 40) + 1)),
        ("chunk_bytes", Parameters(name: "web1", chunkBytes: 0)),
        ("chunk_bytes", Parameters(name: "web1", chunkBytes: 3 << 20)),
        ("chunk_bytes", Parameters(name: "web1", chunkBytes: 66 << 20)),
        ("deadline_ms", Parameters(name: "web1", deadlineMilliseconds: 999)),
        ("deadline_ms", Parameters(name: "web1", deadlineMilliseconds: .max)),
        ("wait", Parameters(name: "web1", wait: "long")),
    ]

    @Test func `what cannot be is refused by the field's name`() {
        for (expected, parameters) in Self.flaws {
            guard case .invalidField(let field, _, _) = refusal({ _ = try StopOrder(parameters) }) else {
                Issue.record("\(parameters) passes")
                continue
            }
            #expect(field == expected)
        }
    }

    @Test func `what a client leaves open the configuration says`() throws {
        var teardown = TDXDConfiguration().teardown
        let plain = try StopOrder(Parameters(name: "web1"))
        #expect(try plain.resolved(teardown) == .init(policy: .auto, wait: .proven))
        teardown.policy = .deferred
        teardown.wait = .proven
        #expect(try plain.resolved(teardown).isHeld)
        #expect(try plain.resolved(teardown).wait == .stopped)
        teardown.rate = .mebibytes(5)
        #expect(try !plain.resolved(teardown).isHeld)
        #expect(try plain.resolved(teardown).pace == 5 << 20)
        let full = try StopOrder(
            Parameters(
                name: "web1", policy: "dynamic-removal", bytesPerSecond: 1 << 30, chunkBytes: 4 << 20,
                deadlineMilliseconds: 1500, wait: "stopped"))
        #expect(
            try full.resolved(teardown)
                == .init(
                    policy: .dynamicRemoval, pace: 1 << 30, chunk: 4 << 20, deadline: .milliseconds(1500),
                    wait: .stopped))
    }

    @Test func `nobody waits for the proof of what would never come`() throws {
        let order = try StopOrder(Parameters(name: "web1", policy: "deferred", wait: "proven"))
        let refused = refusal { _ = try order.resolved(TDXDConfiguration().teardown) }
        guard case .invalidField(field: "wait", value: "proven", _) = refused else {
            Issue.record("\(String(describing: refused))")
            return
        }
        var paced = order
        paced.pace = 1 << 20
        #expect(try paced.resolved(TDXDConfiguration().teardown).wait == .proven)
    }
}
