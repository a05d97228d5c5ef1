import ControlInterface
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing
import Varlink

/// Where a TD's memory lies, from the command line to the node of each page.
@Suite(.serialized) struct NUMATests {
    static let page: UInt64 = 4096
    static let nodes = (try? NUMANodes.usable().nodes) ?? []
    static let backends = ["memfd"] + (Programs.hasKVM ? ["guest_memfd"] : [])

    private func create(_ host: PrivateHost, _ numa: String, _ more: String...) throws -> Finished {
        try runProgram(
            Programs.tdxctl, ["create", "web1", "--memory", "16M", "--numa", numa, "--json=short"] + more,
            environment: ["TDXD_SOCKET": host.socket], in: host.directory)
    }

    @Test(arguments: backends)
    func `a policy is in force, or the answer says for which side it is not, and why`(_ backend: String) throws {
        let node = try #require(Self.nodes.first)
        let host = try PrivateHost(backend: backend)
        let created = try create(host, "bind:\(node)")
        // A host whose KVM has no guest_memfd has nothing to look at.
        if backend != "memfd", created.status != 0, created.errors.contains("backend") { return }
        let numa = try JSONValue(created)["numa"]
        #expect(numa.keys == ["policy", "nodes", "private_applied", "shared_applied", "reason"])
        #expect(numa["policy"].text == "bind" && numa["nodes"].elements.map(\.number) == [Double(node)])
        // The shared side is a memfd everywhere, and a memfd keeps its policy.
        #expect(numa["shared_applied"] == .bool(true))
        if backend == "memfd" { #expect(numa["private_applied"] == .bool(true)) }
        #expect((numa["private_applied"] == .bool(true)) == (numa["reason"] == .null))
        // Looking later tells the same, also a tdxd that did not make the TD.
        host.kill(.kill)
        try host.start()
        #expect(try JSONValue(host.tdxctl("show", "web1", "--json=short"))["numa"] == numa)
        let text = try host.tdxctl("show", "web1").output
        #expect(text.contains("NUMA          bind \(node): "))
        #expect(text.contains("not applied to private memory: ") == (numa["private_applied"] == .bool(false)))
        #expect(try host.stop("web1").complete)
    }

    @Test func `without a policy there is none, and a bad one changes nothing`() throws {
        let host = try PrivateHost()
        _ = try host.create("plain")
        #expect(try JSONValue(host.tdxctl("show", "plain", "--json=short"))["numa"] == .null)
        for text in ["bind", "bind:", "bind:x", "bind:64", "bind:1-0", "near:0", "bind:0;1"] {
            #expect(try create(host, text).status == 2, "\(text)")
        }
        // A node that no machine of this kind has.
        let missing = try #require((0...63).last { !Self.nodes.contains($0) })
        let refused = try create(host, "bind:\(Self.nodes[0]),\(missing)")
        #expect(refused.status == 2)
        #expect(refused.errors.contains("numa.nodes") && refused.errors.contains("\(missing)"))
        for nodes in [[], [0, 0], [-1], [64]] as [[Int]] {
            let error = refusal {
                let _: ManagerInterface.Create.Reply = try host.client().call(
                    ManagerInterface.Create.method,
                    ManagerInterface.Create.Parameters(
                        name: "web1", memoryBytes: 16 << 20, vcpus: 1,
                        numa: NUMAPolicy(policy: .bind, nodes: NUMANodes(unchecked: nodes))),
                    timeout: .seconds(60))
            }
            guard case .invalidField("numa.nodes", _, _) = error else {
                Issue.record("\(nodes): \(String(describing: error))")
                continue
            }
        }
        #expect(try host.list().map(\.name) == ["plain"])
    }

    /// A backing file of the TD as this process sees it.
    private struct File {
        var kind: MemorySide
        var mapping: FileMapping
    }

    private func files(_ host: PrivateHost, _ id: String) throws -> [File] {
        let answer = try VarlinkClient.connect("\(host.runtime)/holders/\(id)/socket").callWithDescriptors(
            HolderInterface.GetBacking.method, as: HolderInterface.GetBacking.Reply.self, timeout: .seconds(60))
        var files: [File] = []
        for file in answer.reply.files {
            guard let descriptor = answer.descriptors.takeFirst() else {
                Issue.record("fewer descriptors than files")
                break
            }
            let mapping = try FileMapping(descriptor: descriptor.rawValue, size: ByteCount(file.bytes))
            files.append(File(kind: file.kind, mapping: mapping))
        }
        return files
    }

    /// The node of each page of a part, as the kernel says: get_mempolicy(2) of the page that is there.
    private func locate(_ mapping: FileMapping, pages: UInt64) throws -> [Int] {
        try (0..<pages).map { try mapping.node(at: ByteCount($0 * Self.page)) }
    }

    @Test(
        .enabled(if: nodes.count > 1, "the machine has one NUMA node"),
        arguments: [
            ("guest_memfd", "bind:1"),
            ("guest_memfd", "interleave:0-1"),
        ].filter { backends.contains($0.0) })
    func `pages come from the nodes asked for, on both sides`(_ backend: String, _ numa: String) throws {
        let host = try PrivateHost(backend: backend)
        // Everything private is there before the TD is: what is looked at below was allocated by the holder.
        let created = try create(host, numa, "--preallocate")
        let domain = try JSONValue(created)
        try #require(domain["numa"]["private_applied"] == .bool(true), "\(created)")
        let id = try #require(domain["id"].text)
        // Null on a kernel that cannot count.
        if let resident = domain["resident_private_bytes"].number { #expect(resident == Double(16 << 20)) }
        let files = try files(host, id)
        var seen: [MemorySide: [Int: Int]] = [:]
        for file in files {
            let pages = min(UInt64(1024), file.mapping.size.rawValue / Self.page)
            // Shared pages come when they are touched; those of the private side are there.
            for node in try locate(file.mapping, pages: pages) { seen[file.kind, default: [:]][node, default: 0] += 1 }
            // Who maps a TD's memory stands against the proof of its end.
            file.mapping.unmap()
        }
        print("\(backend) \(numa): \(seen)")
        for side in [MemorySide.private, .shared] {
            let counts = try #require(seen[side])
            switch numa {
            case "bind:0": #expect(Set(counts.keys) == [0])
            case "bind:1": #expect(Set(counts.keys) == [1])
            default:
                // Turn by turn; a thread that begins does so with any of them.
                let total = counts.values.reduce(0, +)
                #expect(Set(counts.keys) == [0, 1] && counts.values.allSatisfy { $0 > total / 5 * 2 }, "\(counts)")
            }
        }
        #expect(try host.stop("web1").complete)
    }
}
