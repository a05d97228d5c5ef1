internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import ServiceSupport

/// Whether tdxd will have the descriptors that a TD takes. Without any left it could not even be asked to end one.
struct DescriptorRoom: Hashable, Sendable {
    /// RLIMIT_NOFILE.
    var limit: Int
    /// Open now, clients' connections included.
    var open: Int
    /// Most connections of clients.
    var connections: Int

    /// What stays free: a socket and a pidfd for each client, and files that work opens for a moment; where the limit is
    /// low, half of it.
    var reserve: Int { min(2 * connections + 64, limit / 2) }

    /// Descriptors of a TD: the process, connections to it, and a duplicate of every backing file. A holder spreads memory over at most 64
    /// shards below and 64 above 4 GiB, each with two sides, none smaller than `shardMinimum` but the last of each.
    static func needed(_ memory: ByteCount, shardMinimum: ByteCount) -> Int {
        let shards = Int(clamping: memory.rawValue / max(shardMinimum.rawValue, 1)) + 2
        return 2 + IdleConnections.most + ReservedConnections.most + 2 * min(shards, 128)
    }

    /// - Parameter promised: descriptors of TDs that were let in and have not taken theirs yet.
    /// - Throws: `ControlError.limitReached`.
    func admit(needed: Int, promised: Int) throws(ControlError) {
        let available = limit - open - promised - reserve
        guard available < needed else { return }
        throw .limitReached(
            resource: .descriptors, needed: UInt64(needed), available: UInt64(max(available, 0)),
            limit: "RLIMIT_NOFILE \(limit) of tdxd, \(reserve) of it for clients and for ending TDs")
    }
}

extension DescriptorRoom {
    /// This process, now. Nil where it cannot be read.
    static func ofThisProcess(connections: Int) -> Self? {
        guard let limit = try? CurrentProcess.descriptorLimit(), let open = try? TextFile.list("/proc/self/fd") else {
            return nil
        }
        return Self(limit: Int(clamping: limit.soft), open: open.count, connections: connections)
    }
}
