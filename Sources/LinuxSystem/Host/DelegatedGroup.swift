internal import CLinux
internal import Glibc
public import MemoryUnits
internal import SystemPackage

/// A version 2 control group that the service manager has handed over to this service (Delegate=), to divide as it
/// likes.
public struct DelegatedGroup: Hashable, Sendable {
    /// Absolute path in the mounted hierarchy.
    public let directory: String
    /// This process is in a group below (DelegateSubgroup=, systemd 254), so that controllers can be enabled: the
    /// kernel allows that only where a group has no process of its own.
    public let isInner: Bool

    /// The group of this process, or the one above it, that bears systemd's mark of delegation; nil where there is
    /// none: then groups belong to the service manager. Call it before the file system is fenced off.
    ///
    /// - Parameters:
    ///   - root: where control groups are mounted; the hybrid layout has version 2 in `unified` below it.
    ///   - membership: of this process.
    public static func ofThisProcess(
        root: String = "/sys/fs/cgroup", membership: ControlGroups? = try? ControlGroups.of()
    ) -> DelegatedGroup? {
        guard let path = membership?.memberships.first(where: { $0.hierarchy == 0 })?.path else { return nil }
        for mount in [root, root + "/unified"] {
            let own = mount + (path == "/" ? "" : path)
            guard access(own + "/cgroup.procs", F_OK) == 0 else { continue }
            if isMarked(own) { return DelegatedGroup(directory: own, isInner: false) }
            let above = own.lastIndex(of: "/").map { String(own[..<$0]) } ?? own
            if above.utf8.count > mount.utf8.count, isMarked(above) {
                return DelegatedGroup(directory: above, isInner: true)
            }
        }
        return nil
    }

    /// systemd sets either attribute, the second for services without privileges.
    private static func isMarked(_ directory: String) -> Bool {
        tdxd_has_attribute(directory, "trusted.delegate", "1") > 0
            || tdxd_has_attribute(directory, "user.delegate", "1") > 0
    }

    /// Lets groups below account and limit by those controllers that the group itself has.
    /// - Returns: which were enabled.
    public func enable(_ controllers: [String]) -> [String] {
        guard isInner else { return [] }
        return controllers.filter { name in
            (try? Self.write("+" + name, to: directory + "/cgroup.subtree_control")) != nil
        }
    }

    /// Groups below that this process made or found.
    public var names: [String] {
        ((try? TextFile.list(directory)) ?? []).filter { access("\(directory)/\($0)/cgroup.procs", F_OK) == 0 }
    }

    /// Makes a group below; one that is there already is kept.
    /// - Parameter name: one component.
    public func make(_ name: String) throws(LinuxError) {
        guard mkdir("\(directory)/\(name)", 0o755) == 0 || errno == EEXIST else {
            throw LinuxError("mkdir", Errno(rawValue: errno), detail: "\(directory)/\(name)")
        }
    }

    /// Moves a process with all its threads.
    public func move(_ pid: Int32, to name: String) throws(LinuxError) {
        try Self.write("\(pid)", to: "\(directory)/\(name)/cgroup.procs")
    }

    /// One write(2), as files of the kernel want it.
    private static func write(_ text: String, to path: String) throws(LinuxError) {
        let number = open(path, O_WRONLY | O_CLOEXEC)
        guard number >= 0 else { throw LinuxError("open", Errno(rawValue: errno), detail: path) }
        let file = OwnedDescriptor(taking: number)
        guard Glibc.write(file.rawValue, text, text.utf8.count) == text.utf8.count else {
            throw LinuxError("write", Errno(rawValue: errno), detail: path)
        }
    }

    /// Removes a group below that has no process any more.
    /// - Throws: `EBUSY` while it has one.
    public func remove(_ name: String) throws(LinuxError) {
        guard rmdir("\(directory)/\(name)") == 0 || errno == ENOENT else {
            throw LinuxError("rmdir", Errno(rawValue: errno), detail: "\(directory)/\(name)")
        }
    }

    /// Memory charged to a group below that only its end or its reuse takes back, as memory.stat has it: nil where
    /// memory is not accounted by group. File cache that can be dropped is not among it.
    public func heldMemory(_ name: String) -> HeldMemory? {
        guard let text = try? TextFile.read("\(directory)/\(name)/memory.stat") else { return nil }
        return HeldMemory(MemoryStatistics(parsing: text))
    }
}

/// What of a group's memory cannot be dropped. Bytes.
public struct HeldMemory: Hashable, Sendable {
    public var anonymous: ByteCount
    /// memfds.
    public var shared: ByteCount
    /// guest_memfds, and what is locked.
    public var unevictable: ByteCount

    /// Nil when a field is missing.
    public init?(_ statistics: MemoryStatistics) {
        guard let anonymous = statistics["anon"], let shared = statistics["shmem"],
            let unevictable = statistics["unevictable"]
        else { return nil }
        self.anonymous = anonymous
        self.shared = shared
        self.unevictable = unevictable
    }

    /// memfds may be counted twice, which errs on the side of too much.
    public var total: ByteCount { anonymous + shared + unevictable }
}
