import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import SystemPackage
import TestSupport
import Testing

/// Whole programs on backend tdx: Linux's own TDX code, in the seam lab (scripts/test-tdx), whose machine has two processors and
/// few key ids for TDX, so that the last is soon reached.
@Suite(
    .serialized, .kernelStaysCalm,
    .enabled(
        if: SeamLab.isHere && SeamLab.fault == nil, "scripts/test-tdx runs these in a machine with Linux's own TDX code"
    ))
struct TDXBackendTests {
    private func host() throws -> PrivateHost { try PrivateHost(backend: "tdx") }

    private func expectComplete(_ certificate: TeardownCertificate, path: EndPath? = nil) {
        #expect(certificate.complete, "\(certificate)")
        #expect(certificate.backend == .tdx && !certificate.emulated)
        if let path { #expect(certificate.path == path) }
        for proof in certificate.proofs where proof.unseen == nil { #expect(proof.holds, "\(proof)") }
    }

    // MARK: What the host offers

    @Test func `ok finds a host with TDX, and asks nothing that the kernel warns of`() throws {
        let host = try host()
        let found = try host.tdxctl("ok")
        #expect(found.output.contains("tdx"), "\(found)")
        #expect(!found.output.contains("emulated TDX module"), "\(found)")
        print(found.output)
    }

    @Test func `the number of key ids is the kernel's`() throws {
        #expect(try SeamLab.capacity() == SeamLab.keyIDs)
        let known = try host().tdxctl("ok").output
        #expect(known.contains("misc.capacity: tdx \(SeamLab.keyIDs)"), "\(known)")
    }

    @Test func `without misc.capacity the number of key ids is unknown, and the kernel's pool is the limit`() throws {
        // A root group without +misc, which cannot be taken back, has no such file either.
        #expect(mount("none", "/sys/fs/cgroup", "tmpfs", 0, nil) == 0)
        defer { umount("/sys/fs/cgroup") }
        #expect((try? SeamLab.capacity()) == nil)
        // Fewer emulated ones than the kernel has: their number must not count here.
        let host = try PrivateHost(backend: "tdx", settings: "emulated_key_ids = 1")
        for number in 1...SeamLab.keyIDs { _ = try host.create("td\(number)", mebibytes: 8) }
        let keys = try JSONValue(host.tdxctl("keys", "--json=short"))
        #expect(keys["capacity"] == .null && keys["free"] == .null, "\(keys)")
        #expect(keys["in_use"] == .number(Double(SeamLab.keyIDs)), "\(keys)")
        #expect(!(try host.tdxctl("metrics").output.contains("tdxd_key_ids_capacity 1")))
        let refused = try #require(refusal { _ = try host.create("late", mebibytes: 8) })
        #expect("\(refused)".contains("ENOSPC") && "\(refused)".contains("no key id is free"), "\(refused)")
        for number in 1...SeamLab.keyIDs { #expect(try host.stop("td\(number)").path == .dynamicRemoval) }
        #expect(host.leavesNothing())
    }

    // MARK: One life

    @Test(.enabled(if: Programs.hasFirmware, "Debian's package ovmf is not installed"))
    func `a TD lives from a firmware image to its certificate`() throws {
        let host = try host()
        let domain = try host.create("web1", mebibytes: 64, vcpus: 2, firmware: Programs.firmware)
        #expect(domain.backend == .tdx && !domain.emulated)
        #expect(domain.state == .runnable)
        #expect(try SeamLab.keysInUse() == 1)
        let there = try host.convert("web1", gpa: 0x100_0000, bytes: 4 << 20, to: .shared)
        #expect(there.changedBytes == 4 << 20)
        let back = try host.convert("web1", gpa: 0x100_0000, bytes: 4 << 20, to: .private)
        #expect(back.changedBytes == 4 << 20)
        #expect(try host.tdxctl("map", "web1").status == 0)
        expectComplete(try host.stop("web1"))
        #expect(host.leavesNothing())
        #expect(try SeamLab.keysInUse() == 0)
    }

    @Test func `memory is mapped ahead, and verified`() throws {
        let host = try host()
        let created = try host.tdxctl("create", "web1", "--memory", "16M", "--prefault", "--json=short")
        #expect(created.status == 0, "\(created)")
        let verified = try host.tdxctl("verify", "web1")
        #expect(verified.status == 0, "\(verified)")
        expectComplete(try host.stop("web1"))
    }

    @Test func `every conversion of a storm is the kernel's`() throws {
        let host = try host()
        _ = try host.create("web1", mebibytes: 16)
        for round in 0..<20 {
            let gpa = UInt64(round % 4) << 20
            let side: MemorySide = round % 8 < 4 ? .shared : .private
            #expect(try host.convert("web1", gpa: gpa, bytes: 1 << 20, to: side).changedBytes == 1 << 20)
        }
        expectComplete(try host.stop("web1"))
    }

    // MARK: Limits

    @Test func `more vCPUs than processors are refused with the kernel's limit`() throws {
        let host = try host()
        let refused = refusal { _ = try host.create("web1", mebibytes: 16, vcpus: 3) }
        #expect("\(refused as Any)".contains("2"), "\(refused as Any)")
        #expect(refused != nil && host.leavesNothing())
        #expect(try SeamLab.keysInUse() == 0)
    }

    @Test func `TDs live until the last key id, the next is refused, and each end gives one back`() throws {
        let host = try host()
        for number in 1...SeamLab.keyIDs { _ = try host.create("td\(number)", mebibytes: 8) }
        #expect(try SeamLab.keysInUse() == SeamLab.keyIDs)
        let refused = refusal { _ = try host.create("late", mebibytes: 8) }
        #expect(refused == .noKeyAvailable(capacity: Int(SeamLab.keyIDs), inUse: Int(SeamLab.keyIDs)))
        expectComplete(try host.stop("td1"))
        _ = try host.create("late", mebibytes: 8)
        for number in 2...SeamLab.keyIDs { expectComplete(try host.stop("td\(number)")) }
        expectComplete(try host.stop("late"))
        #expect(try SeamLab.keysInUse() == 0)
    }

    @Test(.enabled(if: NUMATests.nodes.count == 2, "the machine has one NUMA node"))
    func `a TD's memory lies on the node that was asked for`() throws {
        let host = try host()
        let created = try host.tdxctl(
            "create", "web1", "--memory", "16M", "--numa", "bind:\(NUMATests.nodes[1])", "--prefault", "--json=short")
        #expect(try JSONValue(created)["numa"]["shared_applied"] == .bool(true), "\(created)")
        expectComplete(try host.stop("web1"))
    }

    // MARK: Ends

    @Test func `a drain for kexec ends every TD, and kexec is safe then`() throws {
        let host = try host()
        for name in ["web1", "web2"] { _ = try host.create(name, mebibytes: 16) }
        let before = try host.tdxctl("kexec", "check", "--json=short")
        #expect(before.status == 1, "\(before)")
        let drained = try host.tdxctl("drain", "--for", "kexec", "--json=short")
        #expect(drained.status == 0, "\(drained)")
        let ended = try JSONValue(drained)["ended"].elements
        #expect(ended.map { $0["complete"] } == [.bool(true), .bool(true)], "\(drained)")
        #expect(host.leavesNothing())
        #expect(try SeamLab.keysInUse() == 0)
        let after = try host.tdxctl("kexec", "check")
        print(after.output)
    }

    @Test func `a deferred end keeps memory and key id until they are asked for`() throws {
        let host = try host()
        let created = try host.tdxctl("create", "web1", "--memory", "16M", "--prefault", "--json=short")
        #expect(created.status == 0, "\(created)")
        let stopped = try host.stop(ManagerInterface.Stop.Parameters(name: "web1", policy: .deferred))
        #expect(!stopped.complete && stopped.pending != nil, "\(stopped)")
        expectComplete(try host.reclaim("web1"))
        #expect(try SeamLab.keysInUse() == 0)
    }

    @Test func `many lives leave the kernel's memory as it was`() throws {
        let host = try host()
        func available() throws -> Int {
            let text = try TextFile.read("/proc/meminfo")
            let line = try #require(text.split(separator: "\n").first { $0.contains("MemAvailable") })
            return try #require(Int(line.filter(\.isNumber)))
        }
        func lives(_ count: Int) throws {
            for _ in 0..<count {
                let created = try host.tdxctl("create", "web1", "--memory", "8M", "--prefault", "--json=short")
                #expect(created.status == 0, "\(created)")
                guard try host.stop("web1").complete else { throw PrivateHost.NotServing(description: host.log) }
            }
        }
        // What the first ones leave is cached.
        try lives(5)
        let before = try available()
        try lives(SeamLab.lives)
        let after = try available()
        print("\(SeamLab.lives) lives: MemAvailable \(before) KiB before, \(after) KiB after")
        // Each had 8 MiB and its tables; what the rest of the machine does is noise of some MiB, however many there were.
        // scripts/test-tdx looks for pages that the module still owned at the end.
        #expect(before - after < 20 << 10, "\(before) KiB before, \(after) KiB after")
        #expect(try SeamLab.keysInUse() == 0)
    }

    // MARK: Deaths

    @Test func `a holder that is killed leaves no key id and no page`() throws {
        let host = try host()
        let domain = try host.create("web1", mebibytes: 32)
        #expect(try SeamLab.keysInUse() == 1)
        kill(domain.holderPID, SIGKILL)
        #expect(try eventually { try host.show("web1").state == .failed }, "\(host.log)")
        #expect(eventually { host.certificateFiles.count == 1 }, "\(host.log)")
        #expect(eventually { host.leavesNothing() }, "\(host.log)")
        #expect(try eventually { try SeamLab.keysInUse() == 0 })
        let certificate = try host.stop("web1")
        #expect(certificate.holderDied && certificate.complete, "\(certificate)")
    }

    @Test func `TDs outlive a tdxd that is killed`() throws {
        let host = try host()
        let domain = try host.create("web1", mebibytes: 16)
        host.kill(.kill)
        #expect(try SeamLab.keysInUse() == 1)
        try host.start()
        #expect(try host.show("web1").holderPID == domain.holderPID)
        expectComplete(try host.stop("web1"))
        #expect(try SeamLab.keysInUse() == 0)
    }

    @Test func `tdxd and a holder that are killed together leave nothing`() throws {
        let host = try host()
        let domain = try host.create("web1", mebibytes: 16)
        kill(domain.holderPID, SIGKILL)
        host.kill(.kill)
        try host.start()
        #expect(eventually { host.leavesNothing() }, "\(host.log)")
        #expect(try eventually { try SeamLab.keysInUse() == 0 })
    }

    // MARK: Many

    @Test func `TDs are made and ended at the same time`() throws {
        let host = try host()
        let outcomes = inParallel(Int(SeamLab.keyIDs)) { index -> String? in
            do {
                for round in 0..<2 {
                    _ = try host.create("td\(index)-\(round)", mebibytes: 8)
                    let certificate = try host.stop("td\(index)-\(round)")
                    guard certificate.complete else { return "\(certificate)" }
                }
                return nil
            } catch { return "\(error)" }
        }
        for outcome in outcomes { #expect(outcome == nil) }
        #expect(host.leavesNothing())
        #expect(try SeamLab.keysInUse() == 0)
    }
}
