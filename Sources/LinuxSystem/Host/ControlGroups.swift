public import MemoryUnits

/// The control groups of a process and the memory controller's figures of them, version 1 and 2.
public struct ControlGroups: Hashable, Sendable {
    /// One line of /proc/PID/cgroup.
    public struct Membership: Hashable, Sendable {
        /// 0 for version 2.
        public var hierarchy: Int
        /// Empty for version 2.
        public var controllers: [String]
        public var path: String

        public init(hierarchy: Int, controllers: [String], path: String) {
            self.hierarchy = hierarchy
            self.controllers = controllers
            self.path = path
        }
    }

    /// The memory controller's limit and use for one group.
    public struct Memory: Hashable, Sendable {
        /// Of the group, from the process's own up to the root, that has the least left below its limit; nil where no
        /// group has a limit.
        public var limit: ByteCount?
        /// Use of that group, or of the process's own group where there is no limit.
        public var current: ByteCount
        /// Where both were read.
        public var directory: String

        public init(limit: ByteCount?, current: ByteCount, directory: String) {
            self.limit = limit
            self.current = current
            self.directory = directory
        }
    }

    public var memberships: [Membership]

    /// Reads the text of /proc/PID/cgroup; malformed lines are left out.
    public init(parsing text: String) {
        memberships = text.split(separator: "\n").compactMap { line in
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3, let hierarchy = Int(parts[0]) else { return nil }
            return Membership(
                hierarchy: hierarchy, controllers: parts[1].split(separator: ",").map { String($0) },
                path: String(parts[2]))
        }
    }

    /// - Parameter pid: nil for this process.
    public static func of(pid: Int32? = nil) throws(LinuxError) -> Self {
        Self(parsing: try TextFile.read("/proc/\(pid.map { String($0) } ?? "self")/cgroup"))
    }

    /// The memory controller's figures; nil where no such controller is mounted or reachable.
    /// - Parameter root: where control groups are mounted.
    public func memory(root: String = "/sys/fs/cgroup") -> Memory? {
        for membership in memberships {
            if membership.hierarchy == 0 {
                for mount in [root, root + "/unified"] {
                    if let found = Self.read(
                        mount: mount, path: membership.path, limitFile: "memory.max", currentFile: "memory.current")
                    {
                        return found
                    }
                }
            } else if membership.controllers.contains("memory") {
                if let found = Self.read(
                    mount: root + "/memory", path: membership.path, limitFile: "memory.limit_in_bytes",
                    currentFile: "memory.usage_in_bytes")
                {
                    return found
                }
            }
        }
        return nil
    }

    /// Walks from the group to the root of the mount; groups that a container hides are passed over.
    private static func read(mount: String, path: String, limitFile: String, currentFile: String) -> Memory? {
        var components = path.split(separator: "/").map { String($0) }
        var own: Memory?
        var tightest: Memory?
        // A group above may have a larger limit and less left, because others use it, too.
        func left(_ memory: Memory) -> ByteCount {
            guard let limit = memory.limit, limit > memory.current else { return .zero }
            return limit - memory.current
        }
        while true {
            let directory = ([mount] + components).joined(separator: "/")
            if let current = number(directory + "/" + currentFile) {
                let limit = number(directory + "/" + limitFile)
                let found = Memory(limit: limit, current: current, directory: directory)
                own = own ?? found
                if limit != nil, tightest.map({ left(found) < left($0) }) ?? true { tightest = found }
            }
            guard !components.isEmpty else { break }
            components.removeLast()
        }
        return tightest ?? own
    }

    /// Nil for "max", for version 1's number for it (above 2^62), and for an unreadable file.
    private static func number(_ path: String) -> ByteCount? {
        guard let text = try? TextFile.read(path, limit: 4096),
            let value = UInt64(text.prefix { $0 != "\n" }), value < 1 << 62
        else { return nil }
        return ByteCount(value)
    }
}

/// A resource of the misc controller: a name that the driver of the resource chose, and a number of units.
public struct MiscResource: Hashable, Sendable {
    public var name: String
    public var amount: UInt64

    public init(name: String, amount: UInt64) {
        self.name = name
        self.amount = amount
    }

    /// Reads the text of misc.capacity or misc.current; malformed lines are left out.
    public static func parse(_ text: String) -> [Self] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            guard words.count == 2, let amount = UInt64(words[1]) else { return nil }
            return Self(name: String(words[0]), amount: amount)
        }
    }

    /// misc.capacity of the root group: what the host has.
    /// - Throws: ENOENT where the misc controller is not mounted; EACCES for other users than root.
    public static func capacities(root: String = "/sys/fs/cgroup") throws(LinuxError) -> [Self] {
        try readRoot("misc.capacity", root)
    }

    /// misc.current of the root group, since Linux 6.7 or where the root shows it.
    public static func current(root: String = "/sys/fs/cgroup") throws(LinuxError) -> [Self] {
        try readRoot("misc.current", root)
    }

    /// misc.current of one group.
    /// - Parameter directory: the group's, absolute.
    /// - Throws: ENOENT where the misc controller is not enabled for the group, or the group is gone.
    public static func current(ofGroup directory: String) throws(LinuxError) -> [Self] {
        parse(try TextFile.read("\(directory)/misc.current", limit: 64 << 10))
    }

    private static func readRoot(_ file: String, _ root: String) throws(LinuxError) -> [Self] {
        var first: LinuxError?
        for mount in [root, root + "/misc", root + "/unified"] {
            do throws(LinuxError) {
                return parse(try TextFile.read("\(mount)/\(file)", limit: 64 << 10))
            } catch {
                first = first ?? error
            }
        }
        throw first!
    }
}
