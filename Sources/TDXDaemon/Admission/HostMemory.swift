internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

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
