internal import ControlInterface

/// Who may do what. Root and the daemon's own user may do everything.
struct PeerPolicy: Hashable, Sendable {
    enum Operation: Hashable, Sendable {
        /// Look: Check, List, Show, Map, PlanStop, ListCertificates, GetCertificate, GetKeys.
        case observe
        /// Change: Create, Convert, Verify, Stop, SelfTest.
        case change
    }

    /// The daemon's own user.
    var ownUID: UInt32
    /// Members of this group may change things; nil for none.
    var operatorGroup: UInt32?
    /// As the configuration names it, for the error.
    var operatorGroupName: String?
    /// Whether everybody else may look.
    var othersMayObserve: Bool

    /// - Parameter groups: of the peer, the primary one included.
    func allows(_ operation: Operation, uid: UInt32, groups: [UInt32]) -> Bool {
        if uid == 0 || uid == ownUID { return true }
        if let operatorGroup, groups.contains(operatorGroup) { return true }
        return operation == .observe && othersMayObserve
    }

    /// - Throws: `ControlError.notPermitted` that says what would be needed.
    func check(_ operation: Operation, method: String, uid: UInt32, groups: [UInt32]) throws(ControlError) {
        guard !allows(operation, uid: uid, groups: groups) else { return }
        var needed = ["user root"]
        if ownUID != 0 { needed.append("user \(ownUID)") }
        if let operatorGroupName { needed.append("group \(operatorGroupName)") }
        throw .notPermitted(
            needed: needed.joined(separator: " or "), reason: "user \(uid) may not call \(method)")
    }
}
