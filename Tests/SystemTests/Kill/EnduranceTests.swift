import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Testing
import Varlink

/// What piles up, and what runs out.
@Suite(.serialized) struct EnduranceTests {
    static let cycles = Endurance.count("TDXD_CYCLES", standard: 20)
    /// By how much a tdxd may be larger after any number of TDs. Lists of what was ended are bounded.
    static let growthLimit = ByteCount.mebibytes(16)

    @Test(arguments: MainJobTests.backends)
    func `TDs that come and go leave tdxd's descriptors, threads and memory as they were`(backend: String) throws {
        let host = try PrivateHost(
            backend: backend, settings: "emulated_key_ids = 1\n[service]\ncertificates_kept = 10")
        func cycle(_ count: Int) throws {
            for number in 0..<count {
                let domain = try host.create("td\(number % 7)")
                _ = try host.convert(domain.name, gpa: 0, bytes: 1 << 20, to: .shared)
                try #require(try host.stop(domain.name).complete, "after \(number) cycles: \(host.log.suffix(3000))")
            }
        }
        // What is needed once: threads' stacks, the allocator's arenas, tables.
        try cycle(max(10, Self.cycles / 20))
        #expect(eventually { host.clientSockets == 0 })
        let before = try ProcessMemory.of(pid: host.pid)
        let descriptors = host.descriptorCount
        try cycle(Self.cycles)
        #expect(eventually { host.clientSockets == 0 })
        #expect(eventually { host.descriptorCount <= descriptors }, "\(descriptors) → \(host.descriptorCount)")
        let after = try ProcessMemory.of(pid: host.pid)
        Endurance.say(
            "cycles: \(Self.cycles) on \(backend); RSS \(before.resident) → \(after.resident), "
                + "descriptors \(descriptors) → \(host.descriptorCount), threads \(before.threads) → \(after.threads)")
        #expect(after.resident <= before.resident + Self.growthLimit)
        #expect(host.leavesNothing())
        #expect(host.certificateFiles.count == 10)
    }

    @Test func `when descriptors run out a create is refused, and all that is there can still be ended`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 64", start: false)
        try host.start(descriptorLimit: 128)
        var made: [String] = []
        var refused: ControlError?
        for number in 0..<64 {
            let name = "td\(number)"
            refused = refusal { _ = try host.create(name, mebibytes: 8) }
            if refused != nil { break }
            made.append(name)
        }
        guard case .limitReached(let resource, let needed, let available, let limit)? = refused else {
            Issue.record("\(made.count) TDs, then \(String(describing: refused)): \(host.log.suffix(3000))")
            return
        }
        #expect(resource == .descriptors && needed > available && limit.contains("128"))
        #expect(!made.isEmpty)
        // Nothing of the refused one is there, and nobody is worse off.
        #expect(try host.list().map(\.name).sorted() == made.sorted())
        #expect(host.holders.count == made.count && host.holderDirectories.count == made.count)
        for name in made {
            let certificate = try host.stop(name)
            #expect(certificate.complete, "\(certificate)")
        }
        #expect(host.leavesNothing())
        _ = try host.create("again", mebibytes: 8)
        #expect(try host.stop("again").complete)
    }

    @Test(.enabled(if: Programs.isRoot, "only root can mount a small file system"))
    func `with a full runtime directory a create is refused whole, and TDs that are there can be ended`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 2", start: false)
        mkdir(host.runtime, 0o755)
        let mounted = try runProgram(
            "/bin/mount", ["-t", "tmpfs", "-o", "size=4m,mode=755", "tdxd-test", host.runtime], in: host.directory)
        try #require(mounted.status == 0, "\(mounted)")
        defer {
            host.kill(.kill)
            _ = try? runProgram("/bin/umount", ["-l", host.runtime], in: host.directory)
        }
        try host.start()
        let kept = try host.create("kept")
        let filler = try OwnedDescriptor.create(path: host.runtime + "/filler")
        let page = [UInt8](repeating: 1, count: 4096)
        while write(filler.rawValue, page, page.count) > 0 {}
        let error = refusal { _ = try host.create("web1") }
        #expect(error != nil)
        #expect(try host.list().map(\.name) == ["kept"])
        #expect(host.holders == [kept.holderPID])
        #expect(host.holderDirectories == [kept.id])
        let keys: ManagerInterface.GetKeys.Reply = try host.client().call(ManagerInterface.GetKeys.method)
        #expect(keys.keys.map(\.id) == [kept.id])
        // Ending needs no room there.
        #expect(try host.stop("kept").complete, "\(host.log.suffix(3000))")
        #expect(ftruncate(filler.rawValue, 0) == 0)
        _ = try host.create("web1")
        #expect(try host.stop("web1").complete)
        #expect(host.leavesNothing())
    }
}
