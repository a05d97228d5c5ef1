internal import LinuxSystem

/// What one client may have of what a server has little of.
///
/// Clients have ranks. The places of a rank are shared with the ranks below it, never with those above: however many clients of
/// low rank there are, one of a higher rank still finds a place.
public struct ClientShare: Hashable, Sendable {
    /// Compared with other clients' only.
    public var rank: Int
    /// Connections of all clients of this rank and of those below it.
    public var connections: Int
    /// Connections of all clients of one user.
    public var connectionsPerUser: Int
    /// Bytes of answers that all clients of one user have not read yet. A single answer may be longer.
    public var unreadBytesPerUser: Int
    /// How long a client that has been answered may stay silent. Nil: for ever.
    public var idleTimeout: Duration?

    public init(
        rank: Int, connections: Int, connectionsPerUser: Int, unreadBytesPerUser: Int, idleTimeout: Duration? = nil
    ) {
        self.rank = rank
        self.connections = connections
        self.connectionsPerUser = connectionsPerUser
        self.unreadBytesPerUser = unreadBytesPerUser
        self.idleTimeout = idleTimeout
    }
}

extension VarlinkLimits {
    /// What a client has where a server gives all of them the same.
    var commonShare: ClientShare {
        ClientShare(
            rank: 0, connections: connections, connectionsPerUser: connectionsPerUser ?? connections,
            unreadBytesPerUser: unreadBytesPerUser, idleTimeout: idleTimeout)
    }
}

/// Who gets a place when a client connects. Pure: the server does what it decides.
struct ConnectionPlaces {
    /// A connection that there is.
    struct Held: Hashable {
        var id: UInt64
        var uid: UInt32
        var rank: Int
        /// Of its share: for all of its rank and below.
        var connections: Int
        /// Since when it has been silent between two calls; nil while the server owes it something.
        var idleSince: MonotonicInstant?
    }

    enum Decision: Hashable {
        case admit
        /// The one with this id ends for it.
        case replace(UInt64)
        case turnAway(limit: Int, perUser: Bool)
    }

    /// - Parameters:
    ///   - total: places of all clients.
    ///   - held: every connection that there is.
    /// - Complexity: O(`held.count`) for each rank.
    static func decide(uid: UInt32, share: ClientShare, total: Int, held: [Held]) -> Decision {
        let own = held.count { $0.uid == uid }
        guard own < share.connectionsPerUser else {
            return .turnAway(limit: share.connectionsPerUser, perUser: true)
        }
        // A place is taken from every rank that the newcomer's is below, so each of their limits counts.
        var limits: [Int: Int] = [share.rank: share.connections]
        for one in held where one.rank > share.rank { limits[one.rank] = one.connections }
        let isFull = limits.contains { rank, limit in held.count { $0.rank <= rank } >= limit }
        guard isFull || held.count >= total else { return .admit }
        let rivals = held.filter { $0.rank <= share.rank }
        // Whoever has most gives way, with a connection that is not in use, to whoever has less.
        var counts: [UInt32: Int] = [:]
        for rival in rivals { counts[rival.uid, default: 0] += 1 }
        var oldest: (id: UInt64, count: Int, since: MonotonicInstant)?
        for rival in rivals {
            guard let since = rival.idleSince, let count = counts[rival.uid], count > own + 1 else { continue }
            if let oldest, (oldest.count, since) <= (count, oldest.since) { continue }
            oldest = (rival.id, count, since)
        }
        if let oldest { return .replace(oldest.id) }
        return .turnAway(limit: min(share.connections, total), perUser: false)
    }
}
