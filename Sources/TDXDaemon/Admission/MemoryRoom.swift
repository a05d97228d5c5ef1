internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

/// How much memory this host could still give to TDs, and what sets the limit.
struct MemoryRoom: Hashable, Sendable {
    let available: ByteCount
    /// Where the figure was read, such as `MemAvailable`.
    let limit: String

    /// The tightest of several rooms; nil when there is none.
    static func tightest(_ rooms: [MemoryRoom]) -> MemoryRoom? { rooms.min { $0.available < $1.available } }

    /// What a cgroup still allows: its limit less its usage, where file cache that could be dropped counts as free.
    /// guest_memfd pages are unevictable, so they are not among it.
    ///
    /// - Parameter statistics: of the cgroup.
    init(limit: ByteCount, current: ByteCount, statistics: MemoryStatistics, directory: String) {
        let droppable = ["inactive_file", "active_file"].reduce(UInt64(0)) { sum, field in
            sum &+ (statistics[field]?.rawValue ?? 0)
        }
        let held = current.rawValue > droppable ? ByteCount(current.rawValue - droppable) : .zero
        self.init(available: limit > held ? limit - held : .zero, limit: "memory limit of cgroup \(directory)")
    }

    init(available: ByteCount, limit: String) {
        self.available = available
        self.limit = limit
    }

    /// Whether a TD fits, beside what living TDs may still take.
    /// - Throws: `ControlError.insufficientMemory`.
    func admit(_ demand: MemoryDemand, promised: ByteCount) throws(ControlError) {
        let free = available > promised ? available - promised : .zero
        guard demand.total <= free else {
            let promises = promised == .zero ? "" : " less \(promised.rawValue) promised to other TDs"
            let tables = MemoryDemand.sum([demand.tables, demand.module])
            throw .insufficientMemory(
                neededBytes: demand.total.rawValue, availableBytes: free.rawValue,
                limit: "\(limit)\(promises); needed beside the guest's \(demand.guest.rawValue): "
                    + "\(demand.conversion.rawValue) while it converts, \(tables.rawValue) for tables")
        }
    }
}

/// Reads how much memory this host and this process's cgroups still have.
enum HostMemory {
    /// The tightest limit there is, less what must stay free.
    /// - Throws: `tryAgain` when the host does not say.
    static func room(reserve: ByteCount) throws(ControlError) -> MemoryRoom {
        var rooms: [MemoryRoom] = []
        do throws(LinuxError) {
            rooms.append(MemoryRoom(available: try MemoryInformation.ofHost().available, limit: "MemAvailable"))
        } catch {
            throw .tryAgain(reason: "the host's memory cannot be read: \(error)")
        }
        if let group = try? ControlGroups.of().memory(), let limit = group.limit {
            let statistics = MemoryStatistics(
                parsing: (try? TextFile.read(group.directory + "/memory.stat")) ?? "")
            rooms.append(
                MemoryRoom(
                    limit: limit, current: group.current, statistics: statistics, directory: group.directory))
        }
        let tightest = MemoryRoom.tightest(rooms)!
        return MemoryRoom(
            available: tightest.available > reserve ? tightest.available - reserve : .zero,
            limit: reserve == .zero ? tightest.limit : "\(tightest.limit) less a reserve of \(reserve)")
    }
}
