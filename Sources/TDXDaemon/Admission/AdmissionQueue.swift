internal import ControlInterface
internal import MemoryUnits

/// Creations that wait for what the host lacks, in the order in which they came. Pure.
///
/// Only the first one is tried, so that a large TD is not starved by small ones after it. A creation that does not wait
/// is not part of it and takes what is free at its moment.
struct AdmissionQueue: Sendable {
    /// More than that are refused.
    static let limit = 64
    /// Of one user who is not tdxd's own or root.
    static let limitPerUser = 16
    /// Of all such users together; the rest is for root and tdxd's own user.
    static let limitOfUsers = 48

    typealias Ticket = UInt64

    private var waiting: [(ticket: Ticket, uid: UInt32?)] = []
    private var next: Ticket = 0

    /// - Parameter uid: of a user with a share; nil for root and tdxd's own user.
    /// - Throws: `ControlError.limitReached` when too many wait; nothing is changed then.
    mutating func enter(for uid: UInt32? = nil) throws(ControlError) -> Ticket {
        func refuse(_ limit: String) -> ControlError {
            .limitReached(resource: .waitingCreations, needed: 1, available: 0, limit: limit)
        }
        guard waiting.count < Self.limit else { throw refuse("\(Self.limit) creations wait already") }
        if let uid {
            guard waiting.count(where: { $0.uid == uid }) < Self.limitPerUser else {
                throw refuse("\(Self.limitPerUser) creations of user \(uid) wait already")
            }
            guard waiting.count(where: { $0.uid != nil }) < Self.limitOfUsers else {
                throw refuse("\(Self.limitOfUsers) creations of users wait already; the other places are root's")
            }
        }
        defer { next += 1 }
        waiting.append((next, uid))
        return next
    }

    mutating func leave(_ ticket: Ticket) { waiting.removeAll { $0.ticket == ticket } }

    /// How many are before it.
    func position(of ticket: Ticket) -> Int { waiting.firstIndex { $0.ticket == ticket } ?? 0 }
}

extension ControlError {
    /// Whether another TD's end may make this refusal go away.
    ///
    /// - Parameter total: the host's memory; more than that never comes.
    func mayPass(onHostWith total: ByteCount?) -> Bool {
        switch self {
        case .noKeyAvailable(let capacity, _): capacity > 0
        case .insufficientMemory(let needed, _, _): total.map { needed <= $0.rawValue } ?? true
        case .limitReached(.trustDomains, _, _, _), .limitReached(.disk, _, _, _), .limitReached(.descriptors, _, _, _):
            true
        default: false
        }
    }
}
