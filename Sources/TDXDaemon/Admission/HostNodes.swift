internal import ControlInterface
internal import LinuxSystem

/// Whether this host has the NUMA nodes that a client names.
enum HostNodes {
    /// - Throws: `invalidField` for the first node without memory that a TD may have; `tryAgain` when the host does not show it.
    static func check(_ policy: NUMAPolicy) throws(ControlError) {
        let usable: NodeSet
        do throws(LinuxError) { usable = try NUMANodes.usable() } catch {
            throw .tryAgain(reason: "the host's NUMA nodes cannot be read: \(error)")
        }
        try check(policy, usable: usable)
    }

    static func check(_ policy: NUMAPolicy, usable: NodeSet) throws(ControlError) {
        for node in policy.nodes.rawValue where !usable.contains(.node(node)) {
            throw .invalidField(
                field: "numa.nodes", value: String(node),
                limit: "a node of this host with memory that tdxd may use: \(usable)")
        }
    }
}
