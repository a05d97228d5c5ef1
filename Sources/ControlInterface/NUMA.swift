/// On which NUMA nodes a TD's memory is to be allocated.
public struct NUMAPolicy: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Hashable, Sendable, CaseIterable {
        /// These nodes and no others.
        case bind
        /// Page by page over these nodes.
        case interleave
    }

    /// Numbers that a node may have.
    public static let nodeNumbers = 0...63

    public var policy: Kind
    public var nodes: [Int]

    public init(policy: Kind, nodes: [Int]) {
        self.policy = policy
        self.nodes = nodes
    }

    /// The same with its nodes in order.
    /// - Throws: `ControlError.invalidField` unless there are nodes, each of a number that can be, once.
    public func checked() throws(ControlError) -> Self {
        let limit = "one or more different numbers from 0 to 63"
        guard !nodes.isEmpty else { throw .invalidField(field: "numa.nodes", value: "[]", limit: limit) }
        var seen: Set<Int> = []
        for node in nodes where !Self.nodeNumbers.contains(node) || !seen.insert(node).inserted {
            throw .invalidField(field: "numa.nodes", value: String(node), limit: limit)
        }
        return Self(policy: policy, nodes: nodes.sorted())
    }
}

/// A NUMA policy that was asked for, and whether it is in force.
public struct NUMAPlacement: Codable, Hashable, Sendable {
    public var policy: NUMAPolicy.Kind
    public var nodes: [Int]
    public var privateApplied: Bool
    public var sharedApplied: Bool
    /// Why it is not in force where it is not.
    public var reason: String?

    public init(
        policy: NUMAPolicy.Kind, nodes: [Int], privateApplied: Bool, sharedApplied: Bool, reason: String?
    ) {
        self.policy = policy
        self.nodes = nodes
        self.privateApplied = privateApplied
        self.sharedApplied = sharedApplied
        self.reason = reason
    }

    enum CodingKeys: String, CodingKey {
        case policy, nodes
        case privateApplied = "private_applied"
        case sharedApplied = "shared_applied"
        case reason
    }
}
