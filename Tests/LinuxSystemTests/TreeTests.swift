import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// What is read from /proc and /sys, from trees made up for it.
struct TreeTests {
    @Test func `the tightest limit on the way to the root counts, with that group's use`() throws {
        let tree = try TemporaryTree()
        try tree.write("memory.current", "900\n")
        try tree.write("a/memory.max", "1048576\n")
        try tree.write("a/memory.current", "700\n")
        try tree.write("a/b/memory.max", "max\n")
        try tree.write("a/b/memory.current", "300\n")
        let memory = try #require(ControlGroups(parsing: "0::/a/b\n").memory(root: tree.path))
        #expect(memory.limit == .mebibytes(1))
        #expect(memory.current == ByteCount(700))
        #expect(memory.directory == "\(tree.path)/a")
    }

    @Test func `a group above with a larger limit and less left is the one that counts`() throws {
        let tree = try TemporaryTree()
        try tree.write("a/memory.max", "10737418240\n")
        try tree.write("a/memory.current", "10200547328\n")
        try tree.write("a/b/memory.max", "8589934592\n")
        try tree.write("a/b/memory.current", "1073741824\n")
        let memory = try #require(ControlGroups(parsing: "0::/a/b\n").memory(root: tree.path))
        #expect(memory.directory == tree.path + "/a")
        #expect(memory.limit == .gibibytes(10) && memory.current == .mebibytes(9728))
    }

    @Test func `without any limit the group's own use is told`() throws {
        let tree = try TemporaryTree()
        try tree.write("a/memory.max", "max\n")
        try tree.write("a/memory.current", "700\n")
        let memory = try #require(ControlGroups(parsing: "0::/a\n").memory(root: tree.path))
        #expect(memory.limit == nil)
        #expect(memory.current == ByteCount(700))
    }

    @Test func `version 1 says no limit by a huge number`() throws {
        let tree = try TemporaryTree()
        try tree.write("memory/memory.limit_in_bytes", "9223372036854771712\n")
        try tree.write("memory/memory.usage_in_bytes", "5000\n")
        try tree.write("memory/x/memory.limit_in_bytes", "8192\n")
        try tree.write("memory/x/memory.usage_in_bytes", "4096\n")
        let groups = ControlGroups(parsing: "4:memory:/x\n0::/\n")
        #expect(
            groups.memory(root: tree.path)
                == .init(limit: .kibibytes(8), current: .kibibytes(4), directory: "\(tree.path)/memory/x"))
        #expect(ControlGroups(parsing: "4:memory:/\n").memory(root: tree.path)?.limit == nil)
    }

    @Test func `key-id capacity is read from the root group, in either place`() throws {
        let tree = try TemporaryTree()
        try tree.write("misc/misc.capacity", "tdx 31\n")
        #expect(try MiscResource.capacities(root: tree.path) == [MiscResource(name: "tdx", amount: 31)])
        try tree.write("misc.capacity", "tdx 63\n")
        #expect(try MiscResource.capacities(root: tree.path).first?.amount == 63)
        #expect { _ = try MiscResource.current(root: tree.path) } throws: {
            ($0 as? LinuxError)?.errno == .noSuchFileOrDirectory
        }
    }

    @Test func `a process that cannot be looked into is said to be unseen, a kernel thread and an ended one are not`()
        throws
    {
        let tree = try TemporaryTree()
        // Not directories: looking fails otherwise than for a process that has ended.
        try tree.write("100/fd", "")
        try tree.write("100/stat", "100 (a) process) S 1 100 100 0 -1 4194560 0\n")
        try tree.write("200/fd", "")
        try tree.write("200/stat", "200 (kworker/0:0) S 2 0 0 0 -1 2129984 0\n")
        try tree.write("300/stat", "300 (ended) Z 1 300 300 0 -1 0 0\n")
        try tree.write("meminfo", "")
        let look = try InodeHolders.find([FileIdentity(device: 1, inode: 1)], procDirectory: tree.path)
        #expect(look.unseen == [100])
        #expect(look.holders.isEmpty)
        #expect(look.processesSeen == 0)
        #expect(try InodeHolders.find([], excluding: [100], procDirectory: tree.path).unseen.isEmpty)
    }

    @Test func `mappings are told apart by device and inode`() throws {
        let tree = try TemporaryTree()
        try tree.write("7/fd/none", "")
        try tree.write(
            "7/maps",
            """
            7f0000000000-7f0000001000 rw-s 00000000 00:01 4242                       /memfd:a b (deleted)
            7f0000002000-7f0000003000 rw-s 00001000 00:01 4242                       /memfd:a b (deleted)
            7f0000004000-7f0000005000 rw-s 00000000 08:01 4242                       /elsewhere
            7f0000006000-7f0000007000 rw-p 00000000 00:00 0
            garbage

            """)
        let file = FileIdentity(device: 1, inode: 4242)
        let look = try InodeHolders.find([file], procDirectory: tree.path)
        #expect(look.holders == [.init(pid: 7, file: file, means: .mappings(count: 2))])
        #expect(look.processesSeen == 1)
    }

    @Test func `what there is no time to look at is said to be unfinished, and what was found counts`() throws {
        let tree = try TemporaryTree()
        for pid in [7, 8] {
            try tree.write("\(pid)/fd/none", "")
            try tree.write("\(pid)/maps", "7f0000000000-7f0000001000 rw-s 00000000 00:01 4242 /a\n")
        }
        let file = FileIdentity(device: 1, inode: 4242)
        let none = try InodeHolders.find(
            [file], procDirectory: tree.path, patience: .init(perProcess: .seconds(10), total: .zero))
        #expect(none.unfinished == [7, 8] && none.processesSeen == 0 && none.holders.isEmpty)
        // Who needs longer than its first turn gets what is left of the time.
        let second = try InodeHolders.find(
            [file], procDirectory: tree.path, patience: .init(perProcess: .zero, total: .seconds(60)))
        #expect(second.unfinished.isEmpty && second.processesSeen == 2)
        #expect(second.holders.map(\.pid) == [7, 8])
    }

    @Test func `of a look for several files each asker has its own`() {
        let (a, b) = (FileIdentity(device: 1, inode: 1), FileIdentity(device: 1, inode: 2))
        let look = InodeHolders(
            holders: [.init(pid: 1, file: a, means: .descriptor(3)), .init(pid: 2, file: b, means: .descriptor(3))],
            unseen: [9], processesSeen: 2)
        #expect(look.holders(of: [a]).holders.map(\.pid) == [1])
        #expect(look.holders(of: [a]).unseen == [9])
    }

    @Test(arguments: [
        "7f00-7f01 rw-s 0 1:1", "7f00-7f01 rw-s 0 zz:1 7 /a", "7f00-7f01 rw-s 0 1:1 99999999999999999999999 /a",
        "7f00-7f01 rw-s 0 1ffffffff:1 7 /a", "", "    ", ":::", "7f00-7f01 rw-s 0 :1 7 /a",
    ])
    func `a line that is no mapping of a file is passed over`(line: String) throws {
        let tree = try TemporaryTree()
        try tree.write("7/fd/none", "")
        let long = String(repeating: "x", count: 100_000)
        try tree.write("7/maps", "\(long)\n\(line)\n7f00-7f01 rw-s 0 00:01 4242 /a\n\(line)")
        let file = FileIdentity(device: 1, inode: 4242)
        let look = try InodeHolders.find([file], procDirectory: tree.path)
        #expect(look.holders == [.init(pid: 7, file: file, means: .mappings(count: 1))])
    }

    @Test func `a file beyond its limit is refused`() throws {
        let tree = try TemporaryTree()
        try tree.write("big", String(repeating: "x", count: 100))
        #expect(try TextFile.read("\(tree.path)/big", limit: 100).utf8.count == 100)
        #expect { _ = try TextFile.read("\(tree.path)/big", limit: 99) } throws: {
            ($0 as? LinuxError)?.errno == .fileTooLarge
        }
        #expect(try TextFile.list(tree.path) == ["big"])
    }

    @Test func `a shared descriptor closes when its last user is done, and runs its errand once`() throws {
        let file = try MemoryFile(name: "shared", size: .kibibytes(4))
        let shared = SharedDescriptor(try file.duplicateDescriptor())
        let number = try #require(
            shared.withDescriptor { number in
                #expect(!shared.close())
                #expect(shared.withDescriptor { _ in true } == nil)
                // Still open for the call under way.
                #expect((try? FileStatus(ofDescriptor: number).identity) == file.identity)
                return number
            })
        #expect((try? FileStatus(ofDescriptor: number))?.identity != file.identity)
        #expect(shared.close())
        #expect(shared.isClosed)
    }
}
