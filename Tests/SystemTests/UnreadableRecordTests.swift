import ControlInterface
import Glibc
import LinuxSystem
import SystemPackage
import Testing
import Varlink

/// Records of living TDs that a starting tdxd cannot read: nothing of the TD may be lost sight of.
@Suite(.serialized) struct UnreadableRecordTests {
    /// What can have become of a record.
    enum Damage: String, CaseIterable, Sendable {
        case truncated, link, newerValue, anothersID, hugeNumber, missing, directory

        func spoil(_ path: String) throws {
            let text = try TextFile.read(path)
            switch self {
            case .truncated: try replace(path, "")
            case .link:
                guard rename(path, path + ".x") == 0, symlink(path + ".x", path) == 0 else {
                    throw LinuxError("symlink", Errno(rawValue: errno))
                }
            case .newerValue: try replace(path, text.replacing("\"memfd\"", with: "\"memfd_of_2030\""))
            case .anothersID: try replace(path, text.replacing("\"id\":\"", with: "\"id\":\"0"))
            case .hugeNumber:
                try replace(path, text.replacing("\"memory_bytes\":", with: "\"memory_bytes\":999999999999"))
            case .missing: unlink(path)
            case .directory:
                unlink(path)
                mkdir(path, 0o700)
            }
        }

        private func replace(_ path: String, _ text: String) throws {
            unlink(path)
            let file = try openForAppending(path)
            let bytes = Array(text.utf8)
            guard bytes.isEmpty || write(file.rawValue, bytes, bytes.count) == bytes.count else {
                throw LinuxError("write", Errno(rawValue: errno))
            }
        }
    }

    @Test(arguments: Damage.allCases)
    func `a living TD is found by its holder, kept, counted and quarantined until it is stopped`(
        damage: Damage
    ) throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 2")
        let domain = try host.create("web1")
        host.kill(.kill)
        try damage.spoil("\(host.runtime)/holders/\(domain.id)/domain.json")
        for _ in 0..<2 {
            try host.start()
            let shown = try host.show("web1")
            #expect(shown.id == domain.id && shown.state == .draining, "\(shown)")
            #expect(shown.reason?.contains("quarantined: its record cannot be read") == true, "\(shown)")
            #expect(host.holders == [domain.holderPID])
            #expect(refusal { _ = try host.create("web1") } == .nameTaken(name: "web1"))
            let keys: ManagerInterface.GetKeys.Reply = try host.client().call(ManagerInterface.GetKeys.method)
            #expect(keys.keys.map(\.keyID) == [domain.keyID], "\(keys)")
            #expect(try host.tdxctl("kexec", "check").status == 1)
            let status: ManagerInterface.GetDrain.Reply = try host.client().call(ManagerInterface.GetDrain.method)
            #expect(status.status.privateBytes == 64 << 20, "\(status)")
            let kept = try TextFile.list("\(host.runtime)/holders/\(domain.id)")
            #expect(damage == .missing || kept.contains("domain.json.unreadable"), "\(kept)")
            host.kill(.kill)
        }
        try host.start()
        #expect(try host.stop("web1").complete, "\(host.log)")
        #expect(eventually { host.leavesNothing() }, "\(host.log)")
        _ = try host.create("web1")
    }

    @Test func `a holder that is silent is kept under its number, and its size counted as unknown`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        host.kill(.kill)
        try Damage.truncated.spoil("\(host.runtime)/holders/\(domain.id)/domain.json")
        kill(domain.holderPID, SIGSTOP)
        try host.start()
        let shown = try #require(try host.list().first)
        #expect(shown.name.hasPrefix("unreadable-") && shown.id == domain.id)
        #expect(host.holders == [domain.holderPID])
        #expect(try host.tdxctl("kexec", "check").status == 1)
        kill(domain.holderPID, SIGCONT)
        host.kill(.kill)
        try host.start()
        // What was written down stays; the TD can be ended.
        #expect(try host.stop(shown.name).complete, "\(host.log)")
        #expect(eventually { host.leavesNothing() })
    }

    @Test func `a state directory that is gone, replaced or closed lets no TD in`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let moved = host.state + ".moved"
        #expect(rename(host.state, moved) == 0)
        func reason() -> String {
            guard case .tryAgain(let reason)? = refusal({ _ = try host.create("web2") }) else { return "let in" }
            return reason
        }
        #expect(reason().contains("ENOENT"))
        #expect(mkdir(host.state, 0o755) == 0 && mkdir(host.state + "/certificates", 0o755) == 0)
        #expect(reason().contains("another directory"))
        #expect(rmdir(host.state + "/certificates") == 0 && rmdir(host.state) == 0)
        #expect(rename(moved, host.state) == 0)
        #expect(try host.create("web2").state == .runnable)
        #expect(try host.stop("web1").complete && host.stop("web2").complete)
    }
}
