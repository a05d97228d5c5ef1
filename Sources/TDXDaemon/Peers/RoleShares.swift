internal import LinuxSystem
internal import ServiceSupport
internal import Varlink

/// What clients of a role have of tdxd's connections: what lower roles take never reaches the places of a higher one, and an admin
/// always finds one that no observer and no operator can take.
struct RoleShares: Hashable, Sendable {
    /// Of all clients.
    let connections: Int
    /// The configuration's limit for one user, which an admin has whole.
    let connectionsPerUser: Int
    /// Of a client between two calls.
    let idleTimeout: Duration

    init(_ configuration: TDXDConfiguration) {
        connections = configuration.limits.connections
        connectionsPerUser = configuration.limits.connectionsPerUser
        idleTimeout = configuration.deadlines.idle
    }

    /// Nil for clients without a role, which are not let in.
    func share(of role: Role) -> ClientShare? {
        func share(_ together: Int, perUser: Int, unread: Int) -> ClientShare {
            ClientShare(
                rank: role.rawValue, connections: max(1, together),
                connectionsPerUser: max(1, min(connectionsPerUser, perUser)), unreadBytesPerUser: unread,
                idleTimeout: idleTimeout)
        }
        return switch role {
        case .none: nil
        case .observe: share(connections / 2, perUser: connections / 8, unread: 16 << 20)
        case .operate: share(connections * 3 / 4, perUser: connections / 4, unread: 16 << 20)
        case .admin: share(connections, perUser: connectionsPerUser, unread: 64 << 20)
        }
    }
}

extension Manager {
    /// What a client may have that connects now.
    func share(of peer: PeerCredentials) -> ClientShare? {
        let configuration = configuration
        let role = PeerPolicy(configuration.access, ownUID: ownUID).role(
            uid: peer.uid, groups: [peer.gid] + peer.groups)
        return RoleShares(configuration).share(of: role)
    }
}
