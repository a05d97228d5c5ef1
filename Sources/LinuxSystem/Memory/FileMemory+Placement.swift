public import MemoryUnits
internal import SystemPackage

/// Whether a NUMA policy is in force for a file, and why not.
public enum FilePlacement: Hashable, Sendable, CaseIterable {
    /// The file has it: it holds for every later allocation, however that comes.
    case kept
    /// The file cannot be mapped, and mbind(2) works on mappings: a guest_memfd made without MMAP.
    case notMappable
    /// The kernel took it for the mapping alone, which nothing is allocated through: guest_memfd before Linux 7.
    case ofMappingOnly
    /// The kernel has no NUMA policies.
    case unsupported
}

extension FileMemory {
    /// mbind(2) on a mapping of a range, and a look through a second mapping whether the file has kept it. Nothing is
    /// touched or allocated; pages that are present do not move.
    /// - Throws: EINVAL for an unknown policy, no nodes, or nodes that this process may not use.
    public static func place(
        descriptor: Int32, offset: ByteCount, length: ByteCount, _ policy: MemoryPolicy, _ nodes: NodeSet
    ) throws(LinuxError) -> FilePlacement {
        let mapping: FileMapping
        do throws(LinuxError) {
            mapping = try FileMapping(descriptor: descriptor, offset: offset, size: length)
        } catch {
            guard error.errno == .operationNotSupportedByDevice else { throw error }
            return .notMappable
        }
        do throws(LinuxError) {
            try mapping.setPolicy(policy, nodes, offset: .zero, length: length)
        } catch {
            guard error.errno == .noFunction else { throw error }
            return .unsupported
        }
        let other = try FileMapping(descriptor: descriptor, offset: offset, size: length)
        return try other.policy(at: .zero) == (policy, nodes) ? .kept : .ofMappingOnly
    }
}
