import ControlInterface
import Glibc
import LinuxSystem
import Testing
import Varlink

/// Certificates that find no place on disk.
@Suite(.serialized) struct UnwritableCertificateTests {
    @Test func `nothing of a TD is free before its certificate is written, and that is tried again`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        _ = try host.create("web1")
        // Even root cannot write into what is no directory.
        let place = host.state + "/certificates"
        #expect(rename(place, place + ".away") == 0)
        _ = try openForAppending(place)
        let certificate = try host.stop("web1")
        #expect(!certificate.complete && certificate.failure?.contains("could not be written") == true)
        #expect(certificate.proofs.contains { $0.name == "key_id_returned" && !$0.holds })
        #expect(try host.show("web1").state == .draining)
        // A TD whose end could not be certified is not let in; that the key id is still taken is asked for apart.
        guard case .tryAgain? = refusal({ _ = try host.create("web2") }) else {
            Issue.record("a TD was let in whose end could not be certified")
            return
        }
        let keys: ManagerInterface.GetKeys.Reply = try host.client().call(ManagerInterface.GetKeys.method)
        #expect(keys.keys.count == 1)
        #expect(host.holderDirectories.count == 1)
        #expect(unlink(place) == 0 && rename(place + ".away", place) == 0)
        // tdxd looks again every few seconds, and so does a client that stops it again.
        #expect(eventually(within: 60) { host.certificateFiles.count == 1 && host.leavesNothing() })
        #expect(eventually { (try? host.list().isEmpty) == true })
        let found = try JSONValue(host.tdxctl("certificate", "show", "web1", "--json=short"))
        #expect(found["complete"] == .bool(true))
        _ = try host.create("web2")
        #expect(try host.stop("web2").complete)
    }

    @Test(.enabled(if: geteuid() == 0, "only root can mount a small file system"))
    func `a state directory without room lets no TD in, and says so`() throws {
        let host = try PrivateHost(start: false)
        #expect(mkdir(host.state, 0o700) == 0)
        guard mount("tdxd-test", host.state, "tmpfs", 0, "size=512k") == 0 else {
            try Test.cancel("a small file system cannot be mounted here: errno \(errno)")
        }
        defer { umount2(host.state, Int32(MNT_DETACH)) }
        try host.start()
        _ = try host.create("web1")
        let filler = try openForAppending(host.state + "/filler")
        let block = [UInt8](repeating: 1, count: 64 << 10)
        while write(filler.rawValue, block, block.count) > 0 {}
        guard case .limitReached(.disk, _, _, _)? = refusal({ _ = try host.create("web2") }) else {
            Issue.record("a TD was let in whose end could not be certified")
            return
        }
        #expect(try host.tdxctl("create", "web2", "--memory", "64M").status == 5)
        #expect(try host.list().map(\.name) == ["web1"])
        // The one that is there can still be ended, and its end is told as it is.
        let certificate = try host.stop("web1")
        #expect(!certificate.complete)
        #expect(ftruncate(filler.rawValue, 0) == 0)
        #expect(eventually(within: 60) { host.leavesNothing() })
        #expect(try host.tdxctl("certificate", "show", "web1").output.contains("COMPLETE"))
    }
}
