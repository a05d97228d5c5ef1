internal import KVM
public import LinuxSystem
internal import MemoryUnits

/// On which NUMA nodes a guest's memory is to be allocated.
public struct MemoryPlacement: Hashable, Sendable {
    public var policy: MemoryPolicy
    /// Not empty.
    public var nodes: NodeSet

    public init(policy: MemoryPolicy, nodes: NodeSet) {
        self.policy = policy
        self.nodes = nodes
    }
}

extension MemoryPlacement {
    /// Makes it the policy of the calling thread, for good, and so of every thread that it starts: what they allocate comes
    /// from these nodes, also in a file that cannot have a policy of its own.
    /// - Returns: whether the kernel confirms that it is in force.
    public func takeOver() -> Bool {
        do throws(LinuxError) {
            try CurrentThread.setMemoryPolicy(policy, nodes)
            return try CurrentThread.memoryPolicy() == (policy, nodes)
        } catch {
            return false
        }
    }
}

/// What became of it.
public struct PlacementReport: Hashable, Sendable {
    public var wanted: MemoryPlacement
    public var `private`: FilePlacement
    /// In place it is what `private` is.
    public var shared: FilePlacement
}

extension FilePlacement {
    /// Why a policy is not in force; nil where it is.
    public var obstacle: String? {
        switch self {
        case .kept: nil
        case .notMappable:
            "this VM's guest_memfd cannot be mapped, and only a mapping takes a policy; were it made so, KVM would serve "
                + "the guest's shared pages from it, too"
        case .ofMappingOnly:
            "this kernel keeps a guest_memfd's policy with the mapping, which allocation does not look at (Linux 7 keeps "
                + "it with the file)"
        case .unsupported: "this kernel has no NUMA policies"
        }
    }
}

extension GuestMemory {
    /// Chooses for each shard's files where their pages come from. Nothing is allocated yet.
    /// - Throws: the kernel's refusal.
    static func place(_ shards: [Shard], _ wanted: MemoryPlacement) throws(KVMError) -> PlacementReport {
        var report = PlacementReport(wanted: wanted, private: .kept, shared: .kept)
        for shard in shards {
            let own = try place(shard.file, wanted)
            // All files of a kind are alike; were one not, the policy would not be in force for the guest.
            if own != .kept { report.private = own }
            let other = try shard.sharedFile.map { file throws(KVMError) in try place(file, wanted) } ?? own
            if other != .kept { report.shared = other }
        }
        return report
    }

    private static func place(_ file: any BackingFile, _ wanted: MemoryPlacement) throws(KVMError) -> FilePlacement {
        let descriptor = try file.duplicateDescriptor()
        do throws(LinuxError) {
            return try FileMemory.place(
                descriptor: descriptor.rawValue, offset: .zero, length: file.size, wanted.policy, wanted.nodes)
        } catch {
            throw KVMError(error)
        }
    }
}
