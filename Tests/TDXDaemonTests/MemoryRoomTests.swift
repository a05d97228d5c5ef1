import ControlInterface
import LinuxSystem
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct MemoryRoomTests {
    @Test func `what fits is admitted, to the byte`() throws {
        let room = MemoryRoom(available: .gibibytes(4), limit: "MemAvailable")
        try room.admit(.gibibytes(4), promised: .zero)
        try room.admit(.gibibytes(1), promised: .gibibytes(3))
        #expect(throws: ControlError.self) { try room.admit(.gibibytes(4) + ByteCount(4096), promised: .zero) }
    }

    @Test func `promised memory counts, and the refusal names the limit`() {
        let room = MemoryRoom(available: .gibibytes(4), limit: "MemAvailable")
        guard
            case .insufficientMemory(let needed, let available, let limit) = refusal({
                try room.admit(.gibibytes(2), promised: .gibibytes(3))
            })
        else {
            Issue.record("2 GiB of 1 GiB were admitted")
            return
        }
        #expect(needed == 2 << 30)
        #expect(available == 1 << 30)
        #expect(limit.contains("MemAvailable") && limit.contains("promised"))
    }

    @Test func `more promised than there is leaves nothing, without wrapping`() {
        let room = MemoryRoom(available: .mebibytes(1), limit: "MemAvailable")
        let found = refusal { try room.admit(ByteCount(4096), promised: .gibibytes(1)) }
        guard case .insufficientMemory(_, 0, _) = found else {
            Issue.record("\(String(describing: found))")
            return
        }
    }

    @Test func `file cache of a cgroup counts as free, unevictable memory does not`() {
        let room = MemoryRoom(
            limit: .mebibytes(100), current: .mebibytes(90),
            statistics: MemoryStatistics(
                parsing: "anon 1048576\ninactive_file 20971520\nactive_file 10485760\nunevictable 31457280\n"),
            directory: "/sys/fs/cgroup/x")
        #expect(room.available == .mebibytes(40))
        #expect(room.limit.contains("/sys/fs/cgroup/x"))
    }

    @Test func `a cgroup over its limit has no room`() {
        let room = MemoryRoom(
            limit: .mebibytes(1), current: .mebibytes(2), statistics: MemoryStatistics(parsing: ""), directory: "/x")
        #expect(room.available == .zero)
    }

    @Test func `the tightest room decides`() {
        let rooms = [
            MemoryRoom(available: .gibibytes(4), limit: "a"), MemoryRoom(available: .gibibytes(2), limit: "b"),
        ]
        #expect(MemoryRoom.tightest(rooms)?.limit == "b")
        #expect(MemoryRoom.tightest([]) == nil)
    }
}
