internal import ControlInterface

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

    /// What a call of io.tdxd.Manager takes. A method that is not here takes an admin: a test holds the table against the
    /// interface.
    static let ofMethods: [String: Role] = [
        "Check": .observe, "List": .observe, "Show": .observe, "Map": .observe, "MapChanges": .observe,
        "Conversions": .observe,
        "PlanStop": .observe, "ListCertificates": .observe, "GetCertificate": .observe, "GetKeys": .observe,
        "GetDrain": .observe, "CheckKexec": .observe,
        "Create": .operate, "Convert": .operate, "Verify": .operate, "Stop": .operate, "Reclaim": .operate,
        "Drain": .admin, "Undrain": .admin, "SelfTest": .admin,
    ]
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

/// Who may do what. Root and the daemon's own user may do everything.
struct PeerPolicy: Hashable, Sendable {
    /// A group as the configuration names it, for errors; its number, nil where this host does not know it.
    struct Group: Hashable, Sendable {
        var name: String
        var number: UInt32?
    }

    /// The daemon's own user.
    var ownUID: UInt32
    var admins: Group?
    var operators: Group?
    /// Whether everybody else may look.
    var othersMayObserve: Bool

    /// - Parameter groups: of the peer, the primary one included.
    func role(uid: UInt32, groups: [UInt32]) -> Role {
        if uid == 0 || uid == ownUID { return .admin }
        if let number = admins?.number, groups.contains(number) { return .admin }
        if let number = operators?.number, groups.contains(number) { return .operate }
        return othersMayObserve ? .observe : .none
    }

    /// - Throws: `ControlError.notPermitted` that says what would be needed.
    func check(method: String, uid: UInt32, groups: [UInt32]) throws(ControlError) -> Principal {
        let role = role(uid: uid, groups: groups)
        let needed = Role.ofMethods[method] ?? .admin
        guard role >= needed else {
            var ways = ["user root"]
            if ownUID != 0 { ways.append("user \(ownUID)") }
            if let admins { ways.append("group \(admins.name)") }
            if needed < .admin, let operators { ways.append("group \(operators.name)") }
            throw .notPermitted(
                needed: ways.joined(separator: " or "), reason: "user \(uid) may not call \(method)")
        }
        return role == .admin ? .admin : .owner(uid)
    }
}
