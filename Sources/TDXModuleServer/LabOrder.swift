/// What a program in the machine asks of the server itself, by a line in /sys/kernel/debug/seamlab/order.
public enum LabOrder: Hashable, Sendable {
    /// The fault happens at the next places that look for it.
    case fault(PlannedFault)
    /// Odds in 1,000 that a call finds each of its locks held; 0 ends it.
    case busy(permille: UInt64, seed: UInt64)
    /// What the guest does on each vCPU that is initialised from now on.
    case guest(GuestScript)
    /// Faults and odds are forgotten.
    case calm

    /// The orders' forms, for help.
    public static let grammar = "fault NAME[:TIMES[:SKIPPING]], busy PERMILLE [SEED], guest SCRIPT, calm"

    /// - Throws: what is wrong with the line.
    public init(parsing line: String) throws(ServerError) {
        let parts = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
        let rest = parts.count > 1 ? String(parts[1]) : ""
        switch parts.first {
        case "fault": self = .fault(try PlannedFault(parsing: rest))
        case "guest": self = .guest(try GuestScript(parsing: rest))
        case "calm" where rest.isEmpty: self = .calm
        case "busy":
            let words = rest.split(separator: " ")
            guard (1...2).contains(words.count), let permille = UInt64(words[0]), permille <= 1000,
                let seed = words.count > 1 ? UInt64(words[1]) : 1
            else { throw ServerError("“\(line)” is not busy PERMILLE [SEED], with 0 to 1000") }
            self = .busy(permille: permille, seed: seed)
        default: throw ServerError("unknown order “\(line)”; there are \(Self.grammar)")
        }
    }
}
