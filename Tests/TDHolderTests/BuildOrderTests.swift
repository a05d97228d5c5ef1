import ConfidentialMemory
import ControlInterface
import MemoryUnits
import Testing

@testable import TDHolder

@Suite struct `Checking what Build was asked for` {
    struct Raw {
        var name = "web1"
        var id = String(repeating: "0a", count: 16)
        var memory: UInt64 = 1 << 30
        var vcpus = 2
        var mrConfigID: String?
        var storm: ConversionStormRule?

        func order() throws(Refusal) -> BuildOrder {
            try BuildOrder(
                HolderInterface.Build.Parameters(
                    name: name, id: id, memoryBytes: memory, vcpus: vcpus, mrconfigid: mrConfigID, keyID: 3,
                    ownerUID: 0, storm: storm))
        }
    }

    @Test func `what clients are told is one chunk of a conversion is one`() {
        #expect(HolderInterface.Convert.chunkBytes == GuestMemory.maximumChunk.rawValue)
    }

    @Test func `A good order is taken over and identities default to zero`() throws {
        let order = try Raw().order()
        #expect(order.memory == .gibibytes(1))
        #expect(order.keyID == KeyID(3))
        #expect(order.mrOwner == [UInt8](repeating: 0, count: 48))
    }

    @Test func `Identities are read as hexadecimal digits of either case`() throws {
        var raw = Raw()
        raw.mrConfigID = "aB" + String(repeating: "00", count: 46) + "0F"
        let bytes = try raw.order().mrConfigID
        #expect(bytes.count == 48 && bytes.first == 0xab && bytes.last == 0x0f)
    }

    @Test(arguments: ["", "0", String(repeating: "0", count: 95), String(repeating: "g", count: 96)])
    func `A bad identity is refused by name`(_ text: String) {
        var raw = Raw()
        raw.mrConfigID = text
        let error = #expect(throws: Refusal.self) { try raw.order() }
        #expect(error?.field == "mrconfigid")
    }

    @Test(arguments: [0, 1, 4095, (1 << 47) + 4096, UInt64.max, UInt64.max - 4095] as [UInt64])
    func `A bad size is refused`(_ bytes: UInt64) {
        var raw = Raw()
        raw.memory = bytes
        let error = #expect(throws: Refusal.self) { try raw.order() }
        #expect(error == Refusal(field: "memory_bytes", value: String(bytes), limit: error?.limit ?? ""))
    }

    @Test(arguments: ["", "Web", "a b", "a/b", "ä", String(repeating: "a", count: 65)])
    func `A bad name is refused`(_ name: String) {
        var raw = Raw()
        raw.name = name
        let error = #expect(throws: Refusal.self) { try raw.order() }
        #expect(error?.field == "name")
    }

    @Test(arguments: [0, -1, 1025, Int.max])
    func `A bad vCPU count is refused`(_ count: Int) {
        var raw = Raw()
        raw.vcpus = count
        let error = #expect(throws: Refusal.self) { try raw.order() }
        #expect(error?.field == "vcpus")
    }

    @Test func `A storm's rule is taken over, or refused by the field that is wrong`() throws {
        var raw = Raw()
        #expect(try raw.order().storm == StormRule(conversions: 10_000, milliseconds: 1_000))
        raw.storm = ConversionStormRule(conversions: 5, windowMilliseconds: 250)
        #expect(try raw.order().storm == StormRule(conversions: 5, milliseconds: 250))
        for (conversions, window, field) in [
            (0, 250, "storm.conversions"), (-1, 250, "storm.conversions"), (1_000_000_001, 250, "storm.conversions"),
            (5, 99, "storm.window_ms"), (5, -1, "storm.window_ms"), (5, 3_600_001, "storm.window_ms"),
        ] as [(Int, Int64, String)] {
            raw.storm = ConversionStormRule(conversions: conversions, windowMilliseconds: window)
            let error = #expect(throws: Refusal.self) { try raw.order() }
            #expect(error?.field == field)
        }
    }

    @Test func `A megabyte of name is quoted short`() {
        var raw = Raw()
        raw.name = String(repeating: "x", count: 1 << 20)
        let error = #expect(throws: Refusal.self) { try raw.order() }
        #expect((error?.value.utf8.count ?? 1000) < 200)
    }
}
