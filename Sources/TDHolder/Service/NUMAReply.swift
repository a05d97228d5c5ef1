internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem

// NUMA policies of the interface and of the rooms below.

extension MemoryPlacement {
    init(_ policy: NUMAPolicy) {
        self.init(
            policy: policy.policy == .bind ? .bind : .interleave,
            nodes: policy.nodes.rawValue.reduce(into: []) { $0.insert(.node($1)) })
    }
}

extension NUMAPlacement {
    /// - Parameter threadsArePlaced: the threads that allocate private memory have the policy. A file without one of its own
    ///   gets its pages by theirs (reference: kvm.md §2.5).
    init(_ report: PlacementReport, threadsArePlaced: Bool) {
        var reasons: [String] = []
        let isPrivatePlaced = report.private == .kept || threadsArePlaced
        if !isPrivatePlaced, let why = report.private.obstacle { reasons.append("private memory: " + why) }
        if let why = report.shared.obstacle { reasons.append("shared memory: " + why) }
        self.init(
            policy: report.wanted.policy == .bind ? .bind : .interleave, nodes: report.wanted.nodes.nodes,
            privateApplied: isPrivatePlaced, sharedApplied: report.shared == .kept,
            reason: reasons.isEmpty ? nil : reasons.joined(separator: "; "))
    }
}
