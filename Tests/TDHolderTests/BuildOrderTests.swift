import ConfidentialMemory
import ControlInterface
import FoundationEssentials
import MemoryUnits
import Testing

@testable import TDHolder

@Suite struct `Checking what Build asks for` {
    /// Build as it goes over the wire, so that any value can be sent.
    private struct Raw: Encodable {
        struct Request: Encodable {
            var name = "web1"
            var memory_bytes: Int64 = 1 << 30
            var vcpus: Int64 = 2
            var mrconfigid: String?
        }
        struct Reservation: Encodable {
            var id = String(repeating: "0a", count: 16)
            var key_id = 3
            var owner_uid = 0
        }
        struct Settings: Encodable {
            struct Storm: Encodable {
                var conversions: Int64
                var window_ms: Int64
            }
            var shard_minimum_bytes: Int64?
            var release_threads: Int64?
            var storm: Storm?
        }
        var request = Request()
        var reservation = Reservation()
        var settings: Settings?

        func order() throws -> HolderInterface.Build.Parameters {
            try JSONDecoder().decode(
                HolderInterface.Build.Parameters.self, from: try JSONEncoder().encode(self))
        }
    }

    /// Expects that a value is refused, by its field.
    private func expectRefusal(_ field: String, _ change: (inout Raw) -> Void) {
        var raw = Raw()
        change(&raw)
        let error = #expect(throws: Refusal.self) { try raw.order() }
        #expect(error?.field == field)
        #expect((error?.value.utf8.count ?? 1000) < 200)
    }

    @Test func `what clients are told is one chunk of a conversion is one`() {
        #expect(HolderInterface.Convert.chunk == GuestMemory.maximumChunk)
    }

    @Test func `A good request is taken as it is`() throws {
        let order = try Raw().order()
        #expect(order.request.memoryBytes.bytes == .gibibytes(1))
        #expect(order.reservation.keyID == 3)
        #expect(order.request.mrowner == nil)
    }

    @Test func `Digests are read as hexadecimal digits of either case`() throws {
        var raw = Raw()
        raw.request.mrconfigid = "aB" + String(repeating: "00", count: 46) + "0F"
        let bytes = try #require(try raw.order().request.mrconfigid?.bytes)
        #expect(bytes.count == 48 && bytes.first == 0xab && bytes.last == 0x0f)
    }

    @Test(arguments: ["", "0", String(repeating: "0", count: 95), String(repeating: "g", count: 96)])
    func `A bad digest is refused by name`(_ text: String) {
        expectRefusal("request.mrconfigid") { $0.request.mrconfigid = text }
    }

    @Test(arguments: [0, 1, 4095, (1 << 51) + 4096, .max, -4096] as [Int64])
    func `A bad size is refused`(_ bytes: Int64) {
        expectRefusal("request.memory_bytes") { $0.request.memory_bytes = bytes }
    }

    @Test(arguments: [
        "", "Web", "a b", "a/b", "ä", String(repeating: "a", count: 65), String(repeating: "x", count: 1 << 20),
    ])
    func `A bad name is refused, and quoted short`(_ name: String) {
        expectRefusal("request.name") { $0.request.name = name }
    }

    @Test(arguments: [0, -1, 1025, .max] as [Int64])
    func `A bad vCPU count is refused`(_ count: Int64) {
        expectRefusal("request.vcpus") { $0.request.vcpus = count }
    }

    @Test(arguments: ["", "0a", String(repeating: "0A", count: 16), String(repeating: "g", count: 32)])
    func `A bad id is refused`(_ id: String) {
        expectRefusal("reservation.id") { $0.reservation.id = id }
    }

    @Test func `A storm's rule is taken over, or refused by the field that is wrong`() throws {
        var raw = Raw()
        raw.settings = Raw.Settings(storm: .init(conversions: 5, window_ms: 250))
        let rule = try #require(try raw.order().settings?.storm)
        #expect(StormRule(rule) == StormRule(conversions: 5, milliseconds: 250))
        for (conversions, window, field) in [
            (0, 250, "conversions"), (-1, 250, "conversions"), (1_000_000_001, 250, "conversions"),
            (5, 99, "window_ms"), (5, -1, "window_ms"), (5, 3_600_001, "window_ms"),
        ] as [(Int64, Int64, String)] {
            expectRefusal("settings.storm." + field) {
                $0.settings = Raw.Settings(storm: .init(conversions: conversions, window_ms: window))
            }
        }
    }

    @Test func `A setting of the host that is out of its range is refused by name`() {
        for minimum in [0, 1 << 20, 3 << 20, (1 << 40) + (2 << 20)] as [Int64] {
            expectRefusal("settings.shard_minimum_bytes") { $0.settings = .init(shard_minimum_bytes: minimum) }
        }
        for threads in [0, -1, 65] as [Int64] {
            expectRefusal("settings.release_threads") { $0.settings = .init(release_threads: threads) }
        }
    }
}
