import MemoryUnits
import Synchronization
import SystemPackage
import Testing

@testable import LinuxSystem

@Suite struct NUMATests {
    @Test(arguments: [
        ("0", [0]), ("0,1", [0, 1]), ("0-3", [0, 1, 2, 3]), ("5,0-1", [0, 1, 5]), ("63", [63]), ("2-2", [2]),
    ])
    func `a list of nodes is read`(text: String, nodes: [Int]) throws {
        let set = try #require(NodeSet(parsing: text))
        #expect(set.nodes == nodes)
        #expect(NodeSet(parsing: set.description) == set)
    }

    @Test(arguments: [
        "", ",", "0,", "-", "1-", "-1", "1-0", "64", "0-64", "a", "0 ", "0x1", "0--1", "0-1-2", "٣",
        "99999999999999999999", "+1",
    ])
    func `anything else is no list of nodes`(text: String) {
        #expect(NodeSet(parsing: text) == nil)
    }

    @Test func `nodes are written as the kernel writes them`() {
        #expect(([.node(0), .node(1), .node(2), .node(5), .node(7), .node(8)] as NodeSet).description == "0-2,5,7-8")
        #expect(NodeSet().description == "")
    }

    @Test func `a node is usable that has memory and that the cpuset allows`() {
        func usable(_ present: String, _ status: String) -> [Int] {
            NUMANodes.usable(present: present, status: status).nodes
        }
        #expect(usable("0-1,3\n", "Name:\tx\nMems_allowed_list:\t0,2-3\n") == [0, 3])
        #expect(usable("0-1\n", "") == [0, 1])
        // Of a machine with more nodes than a mask has room for, those that fit.
        #expect(usable("0,60-80\n", "Mems_allowed_list:\t0-1023\n") == [0, 60, 61, 62, 63])
        #expect(usable("\n", "Mems_allowed_list:\t0\n") == [])
    }

    @Test func `this host has a node with memory`() throws {
        #expect(try !NUMANodes.usable().isEmpty)
    }

    @Test func `a memfd keeps the policy of a part, and another mapping shows it`() throws {
        let page: UInt64 = 4096
        let node = try #require(try NUMANodes.usable().nodes.first)
        let file = try MemoryFile(name: "placed", size: ByteCount(4 * page))
        let descriptor = try file.duplicateDescriptor()
        let outcome = try FileMemory.place(
            descriptor: descriptor.rawValue, offset: ByteCount(page), length: ByteCount(2 * page), .bind, .node(node))
        guard outcome != .unsupported else { return }
        #expect(outcome == .kept)
        let mapping = try file.map(length: ByteCount(4 * page))
        #expect(try mapping.policy(at: .zero).policy == .default)
        #expect(try mapping.policy(at: ByteCount(page)) == (.bind, .node(node)))
        #expect(try mapping.policy(at: ByteCount(3 * page)).policy == .default)
        #expect(throws: LinuxError.self, "no nodes") {
            try FileMemory.place(
                descriptor: descriptor.rawValue, offset: .zero, length: ByteCount(page), .bind, [])
        }
        #expect(throws: LinuxError.self, "no such policy") {
            try FileMemory.place(
                descriptor: descriptor.rawValue, offset: .zero, length: ByteCount(page), MemoryPolicy(rawValue: 999),
                .node(node))
        }
    }

    @Test func `a thread's policy is its own, and goes to the threads that it starts`() throws {
        let node = try #require(try NUMANodes.usable().nodes.first)
        let seen = Mutex<[String: MemoryPolicy]>([:])
        let refused = Mutex<[Errno]>([])
        @Sendable func look(_ who: String) {
            let policy = try? CurrentThread.memoryPolicy()
            seen.withLock {
                $0[who] = policy.map { $0.nodes == [] || $0.nodes == .node(node) ? $0.policy : .preferred }
            }
        }
        // Never on a thread of the tests, which others use after this one.
        let thread = try SystemThread(name: "placed") {
            look("before")
            do throws(LinuxError) {
                try CurrentThread.setMemoryPolicy(.bind, .node(node))
                look("after")
                try SystemThread(name: "started") { look("started") }.join()
                try CurrentThread.setMemoryPolicy(.bind, [])
            } catch {
                refused.withLock { $0.append(error.errno) }
            }
            look("refused")
        }
        thread.join()
        // A kernel without NUMA policies.
        if refused.withLock({ $0 }) == [.noFunction] { return }
        look("the test")
        #expect(refused.withLock { $0 } == [.invalidArgument], "no nodes")
        let policies = seen.withLock { $0 }
        #expect(policies["after"] == .bind && policies["started"] == .bind && policies["refused"] == .bind)
        #expect(policies["before"] == policies["the test"] && policies["before"] != .bind)
    }
}
