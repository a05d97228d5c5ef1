internal import CLinux
public import MemoryUnits

/// A NUMA policy of mbind(2). Unknown values survive.
public struct MemoryPolicy: RawRepresentable, Hashable, Sendable {
    public var rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// MPOL_DEFAULT: the allocating task's policy.
    public static let `default` = Self(rawValue: 0)
    /// MPOL_PREFERRED
    public static let preferred = Self(rawValue: 1)
    /// MPOL_BIND: these nodes and no others.
    public static let bind = Self(rawValue: 2)
    /// MPOL_INTERLEAVE: page by page over these nodes.
    public static let interleave = Self(rawValue: 3)
}

extension CurrentThread {
    /// set_mempolicy(2): where what this thread allocates comes from, and what the threads allocate that it starts from
    /// now on. A file's or a mapping's own policy comes first.
    /// - Throws: EINVAL for an unknown policy, no nodes, or nodes that this process may not use; ENOSYS where the
    ///   kernel has no NUMA policies.
    public static func setMemoryPolicy(_ policy: MemoryPolicy, _ nodes: NodeSet) throws(LinuxError) {
        try LinuxError.check(
            tdxd_set_mempolicy(policy.rawValue, nodes.rawValue), "set_mempolicy",
            "policy \(policy.rawValue), nodes 0x\(String(nodes.rawValue, radix: 16))")
    }

    /// get_mempolicy(2) without an address.
    public static func memoryPolicy() throws(LinuxError) -> (policy: MemoryPolicy, nodes: NodeSet) {
        var policy: Int32 = 0
        var nodes: UInt64 = 0
        try LinuxError.check(tdxd_get_mempolicy(nil, 0, &policy, &nodes), "get_mempolicy")
        return (MemoryPolicy(rawValue: policy), NodeSet(rawValue: nodes))
    }
}

extension FileMapping {
    /// mbind(2): where pages of a part are allocated from now on. Since Linux 7.x a guest_memfd keeps it in the file,
    /// so that it holds for every later allocation however it comes; before, it is the mapping's alone. Pages that are
    /// present never move.
    /// - Throws: EINVAL for an unknown policy or a node that does not exist.
    public func setPolicy(
        _ policy: MemoryPolicy, _ nodes: NodeSet, offset: ByteCount, length: ByteCount
    ) throws(LinuxError) {
        precondition(offset <= size && length <= size - offset, "outside the mapping")
        try LinuxError.check(
            tdxd_mbind(baseAddress + Int(offset.rawValue), length.rawValue, policy.rawValue, nodes.rawValue), "mbind",
            "policy \(policy.rawValue), nodes 0x\(String(nodes.rawValue, radix: 16)), offset \(offset), \(length)")
    }

    /// get_mempolicy(MPOL_F_ADDR): the policy in force at an offset.
    public func policy(at offset: ByteCount) throws(LinuxError) -> (policy: MemoryPolicy, nodes: NodeSet) {
        precondition(offset < size, "outside the mapping")
        var policy: Int32 = 0
        var nodes: UInt64 = 0
        try LinuxError.check(
            tdxd_get_mempolicy(baseAddress + Int(offset.rawValue), 2, &policy, &nodes), "get_mempolicy")
        return (MemoryPolicy(rawValue: policy), NodeSet(rawValue: nodes))
    }

    /// get_mempolicy(MPOL_F_NODE | MPOL_F_ADDR): the node that holds the page at an offset. Touches the page.
    public func node(at offset: ByteCount) throws(LinuxError) -> Int {
        precondition(offset < size, "outside the mapping")
        var node: Int32 = 0
        var nodes: UInt64 = 0
        try LinuxError.check(tdxd_get_mempolicy(baseAddress + Int(offset.rawValue), 3, &node, &nodes), "get_mempolicy")
        return Int(node)
    }
}
