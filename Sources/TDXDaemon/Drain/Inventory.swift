internal import ControlInterface
internal import MemoryUnits

/// What of the host belongs to TDs at one moment: what must not be lost sight of when another kernel takes over.
struct Inventory: Hashable, Sendable {
    var building = 0
    var running = 0
    /// Stopping, or stopped and not proven back.
    var ending = 0
    var privateBytes: UInt64 = 0
    var convertingBytes: UInt64 = 0
    /// Names of running TDs that were counted whole, because it is not known how much of them is private.
    var unknown: [String] = []
    var keysTaken = 0
    var keysDraining = 0
    /// Names of failed TDs whose end could not be proven.
    var unproven: [String] = []
    /// Names of TDs that nothing may be taken from any more.
    var quarantined: [String] = []

    /// - Parameters:
    ///   - domains: as they are now; figures that are old have a reason.
    ///   - answered: ids of running TDs whose holders gave figures just now.
    init(
        _ domains: [TrustDomain], answered: Set<String>, unproven: [String], quarantined: [String] = [], keysTaken: Int,
        keysDraining: Int
    ) {
        self.unproven = unproven
        self.quarantined = quarantined
        self.keysTaken = keysTaken
        self.keysDraining = keysDraining
        for domain in domains {
            switch domain.state {
            case .building: building += 1
            case .runnable: running += 1
            case .stopping, .draining: ending += 1
            case .failed: continue
            }
            if answered.contains(domain.id) {
                privateBytes = privateBytes.addingSaturated(domain.privateBytes)
                convertingBytes = convertingBytes.addingSaturated(domain.convertingBytes)
            } else {
                // Whatever is not known to be shared may be private.
                if domain.state == .runnable { unknown.append(domain.name) }
                privateBytes = privateBytes.addingSaturated(domain.memoryBytes)
            }
        }
    }

    /// What stands against a purpose, in words; empty when it may be.
    func blockers(_ purpose: DrainPurpose) -> [String] {
        var blockers: [String] = []
        if building > 0 { blockers.append("\(counted(building, "TD")) being built") }
        guard purpose.endsDomains else { return blockers }
        if running > 0 { blockers.append("\(counted(running, "TD")) running") }
        if ending > 0 { blockers.append("\(counted(ending, "TD")) not proven back") }
        for name in unproven {
            blockers.append(
                "the end of \(name) could not be proven: see its certificate; “tdxctl stop \(name)” takes note of it")
        }
        for name in quarantined {
            blockers.append("\(name) is quarantined until the host is restarted: see its certificate")
        }
        if keysDraining > 0 { blockers.append("\(counted(keysDraining, "key id")) draining") }
        return blockers
    }
}
