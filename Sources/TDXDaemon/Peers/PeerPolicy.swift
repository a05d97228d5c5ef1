internal import ControlInterface
internal import ServiceSupport

/// What a user is to tdxd. Each role may do what the one before it may.
enum Role: Int, Hashable, Sendable, CaseIterable, Comparable {
    case none
    /// Look.
    case observe
    /// Make TDs, and do to one's own what can be done to a TD.
    case operate
    /// Everything, to everybody's TDs.
    case admin

    static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// Whose TDs a caller may touch. Asked where a name becomes a TD, under the lock: between a check of the name and the
/// work the name could have become another TD's.
enum Principal: Hashable, Sendable {
    case admin
    case owner(UInt32)

    /// - Throws: `ControlError.notPermitted`.
    func check(_ record: DomainRecord, _ operation: String) throws(ControlError) {
        guard case .owner(let uid) = self, record.ownerUID != uid else { return }
        throw .notPermitted(
            needed: "role admin, or to be the TD's owner (user \(record.ownerUID))",
            reason: "user \(uid) may not \(operation) “\(record.name)”")
    }
}

/// Who makes a call that it may make.
struct Caller: Hashable, Sendable {
    var uid: UInt32
    var role: Role

    var principal: Principal { role == .admin ? .admin : .owner(uid) }

    /// Whose share of threads the call takes from.
    var beneficiary: Beneficiary { .client(uid: uid, role: role) }

    /// Why a further call is refused.
    var tooManyCalls: String { "user \(uid) has as many calls under way as it may" }
}

/// Who may do what. Root and the daemon's own user may do everything.
struct PeerPolicy: Hashable, Sendable {
    /// A user or group as the configuration names it, for errors; its number, nil where this host does not know it.
    struct Named: Hashable, Sendable {
        var name: String
        var number: UInt32?
    }

    /// Who has a role.
    struct Members: Hashable, Sendable {
        var users: [Named] = []
        var group: Named?

        func include(uid: UInt32, groups: [UInt32]) -> Bool {
            if users.contains(where: { $0.number == uid }) { return true }
            guard let number = group?.number else { return false }
            return groups.contains(number)
        }

        /// For people: "user alice", "group tdx".
        var names: [String] { users.map { "user \($0.name)" } + (group.map { ["group \($0.name)"] } ?? []) }

        /// Those that this host does not know.
        var unknown: [String] {
            users.filter { $0.number == nil }.map { "user \($0.name)" }
                + (group?.number == nil ? group.map { ["group \($0.name)"] } ?? [] : [])
        }
    }

    /// The daemon's own user.
    var ownUID: UInt32
    var admins = Members()
    var operators = Members()
    var observers = Members()
    /// Whether everybody else may look.
    var othersMayObserve: Bool

    /// - Parameter groups: of the peer, the primary one included.
    func role(uid: UInt32, groups: [UInt32]) -> Role {
        if uid == 0 || uid == ownUID { return .admin }
        if admins.include(uid: uid, groups: groups) { return .admin }
        if operators.include(uid: uid, groups: groups) { return .operate }
        return othersMayObserve || observers.include(uid: uid, groups: groups) ? .observe : .none
    }

    /// - Throws: `ControlError.notPermitted` with what would be needed.
    func check(
        _ method: String, needs needed: Role, uid: UInt32, groups: [UInt32]
    ) throws(ControlError) -> Caller {
        let role = role(uid: uid, groups: groups)
        guard role >= needed else {
            var ways = ["user root"]
            if ownUID != 0 { ways.append("user \(ownUID)") }
            ways += admins.names
            if needed <= .operate { ways += operators.names }
            if needed <= .observe { ways += observers.names }
            throw .notPermitted(
                needed: ways.joined(separator: " or "), reason: "user \(uid) may not call \(method)")
        }
        return Caller(uid: uid, role: role)
    }
}

extension PeerPolicy {
    /// The rules of the configuration, with the numbers that this host has for the names.
    init(_ access: TDXDConfiguration.Access, ownUID: UInt32) {
        func members(_ users: [String], _ group: String?) -> Members {
            Members(
                users: users.map { Named(name: $0, number: UInt32($0) ?? NameNumbers.user($0)) },
                group: group.map { Named(name: $0, number: NameNumbers.group($0)) })
        }
        self.init(
            ownUID: ownUID, admins: members(access.adminUsers, access.adminGroup),
            operators: members(access.operateUsers, access.operateGroup),
            observers: members(access.observeUsers, access.observeGroup), othersMayObserve: access.others == .read)
    }

    /// Names that admit no client because this host does not know them.
    var unknownNames: [String] { admins.unknown + operators.unknown + observers.unknown }
}
