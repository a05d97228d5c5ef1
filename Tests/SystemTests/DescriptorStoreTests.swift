import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// Duplicates of guest memory with the service manager, while no tdxd runs.
@Suite(.serialized) struct DescriptorStoreTests {
    private static let mebibyte = UInt64(1) << 20

    @Test
    func `memory of a TD whose holder died together with tdxd is given back in steps, and its return is measured`()
        throws
    {
        let (host, manager) = try Self.hostUnderManager()
        defer { manager.close() }
        let domain = try host.create("web1")
        #expect(manager.stored.allSatisfy { $0.name.hasPrefix("td-\(domain.id)-") } && !manager.stored.isEmpty)
        let resident = try host.makeResident(16 * Self.mebibyte)
        try Self.killBoth(host)
        try host.start(under: manager)
        // Refused while it is being reaped.
        var found: TeardownCertificate?
        #expect(
            eventually {
                found = try? host.stop("web1")
                return found != nil
            })
        let certificate = try #require(found)
        #expect(certificate.complete && certificate.holderDied, "\(certificate)")
        #expect(certificate.releasedBytes >= resident)
        #expect(certificate.phases.contains { $0.name == .reap && $0.bytes == certificate.releasedBytes })
        let measured = certificate.proofs.first { $0.name == "residency_zero" }
        #expect(measured?.holds == true && measured?.evidence.contains("cachestat") == true)
        #expect(manager.stored.isEmpty && host.leavesNothing())
    }

    @Test func `a restarted tdxd has the duplicates that its predecessor stored, and a TD's end takes them out`() throws
    {
        let (host, manager) = try Self.hostUnderManager()
        defer { manager.close() }
        _ = try host.create("web1")
        let before = manager.stored.map(\.name)
        let duplicates = host.backingDescriptors
        host.kill(.kill)
        try host.start(under: manager)
        #expect(manager.stored.map(\.name) == before)
        #expect(host.backingDescriptors == duplicates && duplicates > 0)
        _ = try host.create("web2")
        #expect(manager.stored.count == 2 * before.count)
        #expect(try host.stop("web1").complete)
        #expect(manager.stored.count == before.count)
        #expect(try host.stop("web2").complete)
        #expect(manager.stored.isEmpty && host.leavesNothing())
    }

    @Test func `stored duplicates of a TD without a record are kept until it is stopped`() throws {
        let (host, manager) = try Self.hostUnderManager()
        defer { manager.close() }
        _ = try host.create("web1")
        try Self.killBoth(host)
        for id in host.holderDirectories { unlink("\(host.runtime)/holders/\(id)/domain.json") }
        try host.start(under: manager)
        #expect(!manager.stored.isEmpty && host.backingDescriptors > 0)
        let kept = try #require(try host.list().first)
        #expect(kept.state == .draining && kept.name.hasPrefix("unreadable-"), "\(kept)")
        _ = try host.stop(kept.name)
        #expect(eventually { manager.stored.isEmpty && host.leavesNothing() }, "\(host.log)")
    }

    @Test func `a quarantined TD keeps its name, key id and memory, whatever dies`() throws {
        let (host, manager) = try Self.hostUnderManager(settings: "emulated_key_ids = 2")
        defer { manager.close() }
        let domain = try host.create("web1")
        let resident = try host.makeResident(16 * Self.mebibyte)
        try Self.killBoth(host)
        // As tdxd writes it when a holder tells of a failed zap.
        let path = "\(host.runtime)/holders/\(domain.id)/domain.json"
        let record = try TextFile.read(path)
        let end = try #require(record.lastIndex(of: "}"))
        unlink(path)
        let file = try openForAppending(path)
        let bytes = Array((record[..<end] + ",\"quarantine\":\"release: EIO\"}").utf8)
        #expect(write(file.rawValue, bytes, bytes.count) == bytes.count)
        for round in 1...2 {
            try host.start(under: manager)
            #expect(eventually { (try? host.show("web1").reason) == "quarantined: release: EIO" })
            #expect(try host.show("web1").state == .draining)
            #expect(refusal { _ = try host.create("web1") } == .nameTaken(name: "web1"))
            let keys = try JSONValue(host.tdxctl("keys", "--json=short"))
            #expect(keys["free"].number == 1 && keys["draining"].number == 1)
            // Asked for again, it tells what is known and changes nothing.
            let certificate = try host.stop("web1")
            #expect(!certificate.complete)
            #expect(certificate.phases.contains { $0.name == .quarantine && $0.bytes >= resident })
            #expect(try host.show("web1").state == .draining, "round \(round)")
            #expect(!manager.stored.isEmpty && host.backingDescriptors > 0)
            host.kill(.kill)
        }
    }

    private static func hostUnderManager(settings: String = "") throws -> (PrivateHost, StandInManager) {
        let host = try PrivateHost(settings: settings, start: false)
        let manager = try StandInManager(path: host.directory + "/notify")
        try host.start(under: manager)
        return (host, manager)
    }

    /// tdxd first, so that it cannot reap.
    private static func killBoth(_ host: PrivateHost) throws {
        let holders = host.holders
        host.kill(.kill)
        for pid in holders { Glibc.kill(pid, SIGKILL) }
        #expect(eventually { host.holders.isEmpty })
    }
}
