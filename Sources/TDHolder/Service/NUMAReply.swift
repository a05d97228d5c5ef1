internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem

// NUMA policies of the interface and of the rooms below.

extension MemoryPlacement {
    /// - Parameter policy: checked.
    init(_ policy: NUMAPolicy) {
        self.init(
            policy: policy.policy == .bind ? .bind : .interleave,
            nodes: policy.nodes.reduce(into: []) { $0.insert(.node($1)) })
    }
}

extension NUMAPlacement {
    init(_ report: PlacementReport) {
        var reasons: [String] = []
        if let why = report.private.obstacle { reasons.append("private memory: " + why) }
        if let why = report.shared.obstacle { reasons.append("shared memory: " + why) }
        self.init(
            policy: report.wanted.policy == .bind ? .bind : .interleave, nodes: report.wanted.nodes.nodes,
            privateApplied: report.private == .kept, sharedApplied: report.shared == .kept,
            reason: reasons.isEmpty ? nil : reasons.joined(separator: "; "))
    }
}
