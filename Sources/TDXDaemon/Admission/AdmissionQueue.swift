internal import ControlInterface
internal import MemoryUnits

/// Creations that wait for what the host lacks, in the order in which they came. Pure.
///
/// Only the first one is tried, so that a large TD is not starved by small ones behind it. A creation that does not wait
/// is not part of it and takes what is free at its moment.
struct AdmissionQueue: Sendable {
    /// More than that are refused.
    static let limit = 64

    typealias Ticket = UInt64

    private var tickets: [Ticket] = []
    private var next: Ticket = 0

    /// - Throws: `ControlError.limitReached` when too many wait; nothing is changed then.
    mutating func enter() throws(ControlError) -> Ticket {
        guard tickets.count < Self.limit else {
            throw .limitReached(
                resource: .waitingCreations, needed: 1, available: 0, limit: "\(Self.limit) creations wait already")
        }
        defer { next += 1 }
        tickets.append(next)
        return next
    }

    mutating func leave(_ ticket: Ticket) { tickets.removeAll { $0 == ticket } }

    /// How many are before it.
    func position(of ticket: Ticket) -> Int { tickets.firstIndex(of: ticket) ?? 0 }
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
