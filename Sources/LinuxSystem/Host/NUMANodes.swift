internal import SystemPackage

/// Which NUMA nodes this host has.
public enum NUMANodes {
    /// Nodes with memory that this process may allocate on: those of sysfs that its cpuset allows, too. Nodes beyond 63
    /// are left out. A kernel without NUMA has node 0.
    public static func usable() throws(LinuxError) -> NodeSet {
        let allowed = try? TextFile.read("/proc/self/status", limit: 1 << 20)
        return usable(present: try present(), status: allowed ?? "")
    }

    /// Pure.
    /// - Parameters:
    ///   - present: as /sys/devices/system/node/has_memory lists them.
    ///   - status: the text of /proc/self/status.
    static func usable(present: String, status: String) -> NodeSet {
        let field = "Mems_allowed_list:"
        let allowed = status.split(separator: "\n").first { $0.hasPrefix(field) }.map { line in
            NodeSet(roomFor: line.dropFirst(field.count).drop { $0 == "\t" || $0 == " " })
        }
        return NodeSet(roomFor: present.prefix { $0 != "\n" }).intersection(allowed ?? NodeSet(rawValue: .max))
    }

    private static func present() throws(LinuxError) -> String {
        do {
            return try TextFile.read("/sys/devices/system/node/has_memory", limit: 1 << 16)
        } catch {
            // Built without NUMA.
            guard error.errno == .noSuchFileOrDirectory else { throw error }
            return "0"
        }
    }
}
