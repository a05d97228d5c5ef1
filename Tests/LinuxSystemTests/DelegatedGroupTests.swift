import CLinux
import Glibc
import LinuxSystem
import MemoryUnits
import Testing

@Suite struct DelegatedGroupTests {
    /// Files as control groups have them, in an ordinary directory.
    private static func tree(_ groups: [String], marked: String?) throws -> TemporaryTree {
        let tree = try TemporaryTree()
        for group in groups { try tree.write(group + "/cgroup.procs", "") }
        guard let marked else { return tree }
        let result = tdxd_set_attribute("\(tree.path)/\(marked)", "user.delegate", "1")
        guard result == 0 else { try Test.cancel("this file system has no user attributes: errno \(-result)") }
        return tree
    }

    private static func membership(_ path: String) -> ControlGroups {
        ControlGroups(parsing: "4:memory:/elsewhere\n0::\(path)\n")
    }

    @Test func `only a group that the service manager has marked is ours`() throws {
        let tree = try Self.tree(["system.slice/tdxd.service"], marked: nil)
        #expect(
            DelegatedGroup.ofThisProcess(root: tree.path, membership: Self.membership("/system.slice/tdxd.service"))
                == nil)
        #expect(DelegatedGroup.ofThisProcess(root: tree.path, membership: Self.membership("/gone")) == nil)
        #expect(DelegatedGroup.ofThisProcess(root: tree.path, membership: Self.membership("/")) == nil)
    }

    @Test(arguments: [("", false), ("/tdxd", true)])
    func `it is found from inside and from below`(_ place: (below: String, isInner: Bool)) throws {
        let service = "system.slice/tdxd.service"
        let tree = try Self.tree([service, service + "/tdxd"], marked: service)
        let group = try #require(
            DelegatedGroup.ofThisProcess(root: tree.path, membership: Self.membership("/\(service)\(place.below)")))
        #expect(group.directory == "\(tree.path)/\(service)" && group.isInner == place.isInner)
        #expect(group.names == ["tdxd"])
    }

    @Test func `the hybrid layout has it one directory further`() throws {
        let tree = try Self.tree(["unified/a.service"], marked: "unified/a.service")
        let group = DelegatedGroup.ofThisProcess(root: tree.path, membership: Self.membership("/a.service"))
        #expect(group?.directory == tree.path + "/unified/a.service")
    }

    @Test func `groups are made once and removed once`() throws {
        let tree = try Self.tree(["a.service"], marked: "a.service")
        let group = try #require(
            DelegatedGroup.ofThisProcess(root: tree.path, membership: Self.membership("/a.service")))
        try group.make("td-web1")
        try group.make("td-web1")
        #expect(throws: LinuxError.self) { try group.move(1, to: "td-web2") }
        try group.remove("td-web1")
        try group.remove("td-web1")
        #expect(access(group.directory + "/td-web1", F_OK) != 0)
    }

    @Test func `what is charged is read by field, and a missing one is not zero`() {
        let text = "anon 4096\nfile 8192\nshmem 12288\nunevictable 16384\n"
        #expect(HeldMemory(MemoryStatistics(parsing: text))?.total == ByteCount(32768))
        #expect(HeldMemory(MemoryStatistics(parsing: "anon 4096\nshmem 1\nunevictable x\n")) == nil)
    }
}
