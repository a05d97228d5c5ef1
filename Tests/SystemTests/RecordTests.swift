import ControlInterface
import FoundationEssentials
import Glibc
import LinuxSystem
import MemoryUnits
import Testing
import Varlink

/// What remains to be looked at: certificates, key ids, and memory that is paid for twice.
@Suite(.serialized) struct RecordTests {
    @Test func `certificates are listed and shown by name and id, as many as configured`() throws {
        let host = try PrivateHost(settings: "[service]\ncertificates_kept = 2")
        #expect(try host.tdxctl("certificate", "list").output == "There are no certificates.\n")
        var ids: [String] = []
        for name in ["a", "b", "a"] {
            ids.append(try host.create(name).id)
            #expect(try host.stop(name).complete)
        }
        let listed = try JSONValue(host.tdxctl("certificate", "list", "--json=short"))
        #expect(listed.elements.map { $0["id"].text } == [ids[2], ids[1]])
        let byName = try host.tdxctl("certificate", "show", "a", "--json=short")
        #expect(byName.status == 0)
        #expect(try JSONValue(byName)["id"].text == ids[2])
        #expect(try JSONValue(byName)["complete"] == .bool(true))
        #expect(try JSONValue(host.tdxctl("certificate", "show", ids[1], "--json=short"))["name"].text == "b")
        let gone = try host.tdxctl("certificate", "show", ids[0])
        #expect(gone.status == 3)
        #expect(gone.errors.contains("certificate list"))
        // A certificate outlives the tdxd that wrote it.
        host.kill(.kill)
        try host.start()
        #expect(try host.tdxctl("certificate", "show", "b").output.contains("COMPLETE"))
    }

    @Test func `certificates that have become too old go when tdxd starts, and are not listed`() throws {
        let host = try PrivateHost(settings: "[service]\ncertificate_days = 30")
        for name in ["old", "young"] {
            _ = try host.create(name)
            #expect(try host.stop(name).complete)
        }
        for file in host.certificateFiles {
            let second = Int(time(nil)) - (file.hasPrefix("old-") ? 31 : 29) * 86_400
            var times = [timeval(tv_sec: second, tv_usec: 0), timeval(tv_sec: second, tv_usec: 0)]
            #expect(utimes(host.state + "/certificates/" + file, &times) == 0)
        }
        host.kill(.terminate)
        try host.start()
        #expect(eventually { host.certificateFiles.count == 1 }, "\(host.log)")
        let listed = try JSONValue(host.tdxctl("certificate", "list", "--json=short"))
        #expect(listed.elements.map { $0["name"].text } == ["young"])
        #expect(try host.tdxctl("certificate", "show", "old").status == 3)
    }

    @Test func `keys tells how many key ids there are and who holds which`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 3")
        let none = try JSONValue(host.tdxctl("keys", "--json=short"))
        #expect(none["capacity"].number == 3 && none["free"].number == 3 && none["emulated"] == .bool(true))
        let domain = try host.create("web1")
        let one = try JSONValue(host.tdxctl("keys", "--json=short"))
        #expect(one["free"].number == 2 && one["in_use"].number == 1)
        #expect(one["keys"].elements.count == 1)
        #expect(one["keys"].elements.first?["name"].text == "web1")
        #expect(one["keys"].elements.first?["id"].text == domain.id)
        #expect(one["keys"].elements.first?["key_id"].number == domain.keyID.map { Double($0) })
        #expect(try host.tdxctl("keys").output.contains("(emulated)"))
        _ = try host.stop("web1")
        #expect(try JSONValue(host.tdxctl("keys", "--json=short"))["free"].number == 3)
    }

    @Test func `memory that is paid for twice is found and freed, and nothing else is touched`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        let page = UInt64(4096)
        _ = try host.convert("web1", gpa: 16 << 20, bytes: 4 << 20, to: .shared)
        #expect(try wasted(host) == 0)
        let answer = try VarlinkClient.connect("\(host.runtime)/holders/\(domain.id)/socket").callWithDescriptors(
            HolderInterface.GetBacking.method, as: HolderInterface.GetBacking.Reply.self, timeout: .seconds(60))
        for file in answer.reply.files {
            guard let descriptor = answer.descriptors.takeFirst() else {
                Issue.record("fewer descriptors than files")
                return
            }
            // Pages that somebody else's writing has left on both sides, private and shared.
            for gpa in [UInt64(0), 17 << 20] where file.gpa <= gpa && gpa < file.gpa + file.bytes {
                try FileMemory.allocate(
                    descriptor: descriptor.rawValue, offset: ByteCount(gpa - file.gpa), length: ByteCount(2 * page))
            }
        }
        let resident = try #require(try host.show("web1").residentBytes)
        #expect(try wasted(host) == 4 * page)
        let freed = try JSONValue(host.tdxctl("verify", "web1", "--reclaim", "--json=short"))
        #expect(freed["reclaimed"] == .bool(true) && freed["wasted_bytes"].number == Double(4 * page))
        #expect(
            Set(freed["ranges"].elements.compactMap { $0["wasted"].text }) == ["private", "shared"])
        #expect(try wasted(host) == 0)
        #expect(try host.show("web1").residentBytes == resident - 4 * page)
        #expect(try host.tdxctl("verify", "nobody").status == 3)
        #expect(try host.stop("web1").complete)
    }

    private func wasted(_ host: PrivateHost) throws -> UInt64 {
        let found = try JSONValue(host.tdxctl("verify", "web1", "--json=short"))
        return try UInt64(#require(found["wasted_bytes"].number))
    }
}
