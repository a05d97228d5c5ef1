import ControlInterface
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct DescriptorRoomTests {
    @Test func `a TD takes two descriptors a shard, its process and connections to it`() {
        func needed(_ mebibytes: UInt64) -> Int {
            DescriptorRoom.needed(.mebibytes(mebibytes), shardMinimum: .mebibytes(256))
        }
        #expect(needed(64) == 10 && needed(512) == 14 && needed(4096) == 42)
        // However large it is.
        #expect(needed(64 << 20) == 262)
    }

    @Test func `what clients and ends of TDs take stays free, and what was promised counts`() throws {
        let room = DescriptorRoom(limit: 1024, open: 500, connections: 128)
        #expect(room.reserve == 320)
        try room.admit(needed: 204, promised: 0)
        try room.admit(needed: 4, promised: 200)
        #expect(
            refusal { try room.admit(needed: 5, promised: 200) }
                == .limitReached(
                    resource: .descriptors, needed: 5, available: 4,
                    limit: "RLIMIT_NOFILE 1024 of tdxd, 320 of it for clients and for ending TDs"))
        let full = DescriptorRoom(limit: 64, open: 60, connections: 128)
        #expect(full.reserve == 32)
        guard case .limitReached(.descriptors, 6, 0, _)? = refusal({ try full.admit(needed: 6, promised: 0) }) else {
            Issue.record("let in without room")
            return
        }
    }
}
