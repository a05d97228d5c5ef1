import ControlInterface
import LinuxSystem
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct MemoryRoomTests {
    private static let demand = MemoryDemand(guest: .gibibytes(1), on: .guestMemfd)

    @Test func `what fits is admitted to the last byte and refused one byte later`() throws {
        let need = Self.demand.total
        try MemoryRoom(available: need, limit: "MemAvailable").admit(Self.demand, promised: .zero)
        try MemoryRoom(available: need + .gibibytes(3), limit: "x").admit(Self.demand, promised: .gibibytes(3))
        let short = MemoryRoom(available: need - ByteCount(1), limit: "MemAvailable")
        let told = "MemAvailable; needed beside the guest's 1073741824: 67108864 while it converts, 12845056 for tables"
        #expect(
            refusal { try short.admit(Self.demand, promised: .zero) }
                == .insufficientMemory(
                    neededBytes: need.rawValue, availableBytes: need.rawValue - 1, limit: told))
    }

    @Test func `promised memory counts, and the refusal names the limit`() {
        let room = MemoryRoom(available: .gibibytes(4), limit: "MemAvailable")
        guard
            case .insufficientMemory(let needed, let available, let limit) = refusal({
                try room.admit(Self.demand, promised: .gibibytes(3))
            })
        else {
            Issue.record("more than 1 GiB of 1 GiB was admitted")
            return
        }
        #expect(needed == Self.demand.total.rawValue && available == 1 << 30)
        #expect(limit.hasPrefix("MemAvailable less 3221225472 promised to other TDs;"))
    }

    @Test func `more promised than there is leaves nothing, without wrapping`() {
        let room = MemoryRoom(available: .mebibytes(1), limit: "MemAvailable")
        let found = refusal { try room.admit(Self.demand, promised: .gibibytes(1)) }
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
