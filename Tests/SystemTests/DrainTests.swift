import ControlInterface
import Glibc
import LinuxSystem
import Testing
import Varlink

/// Emptying a host, and what is said of kexec meanwhile.
@Suite(.serialized) struct DrainTests {
    private func tdxctl(_ host: PrivateHost, _ arguments: String...) throws -> (status: Int32, json: JSONValue) {
        let result = try runProgram(
            Programs.tdxctl, arguments + ["--json=short"], environment: ["TDXD_SOCKET": host.socket],
            in: host.directory)
        return (result.status, try JSONValue(result))
    }

    private func check(_ json: JSONValue, _ name: String) -> String? {
        json["checks"].elements.first { $0["name"].text == name }?["result"].text
    }

    @Test func `a drain for kexec ends every TD, proves it, and lets no other in until it is undone`() throws {
        let host = try PrivateHost()
        for name in ["web1", "web2", "web3"] { _ = try host.create(name) }
        let before = try tdxctl(host, "kexec", "check")
        #expect(before.status == 1 && before.json["safe"] == .bool(false))
        #expect(before.json["emulated"] == .bool(true))
        #expect(check(before.json, "tds") == "fail" && check(before.json, "pages") == "fail")

        let drained = try tdxctl(host, "drain", "--for", "kexec")
        #expect(drained.status == 0 && drained.json["ready"] == .bool(true), "\(drained)")
        #expect(drained.json["ended"].elements.map { $0["complete"] } == [.bool(true), .bool(true), .bool(true)])
        #expect(drained.json["private_bytes"].number == 0 && drained.json["keys_taken"].number == 0)
        #expect(host.leavesNothing())
        #expect(try tdxctl(host, "kexec", "check").status == 0)

        let refused = refusal { _ = try host.create("web4") }
        guard case .tryAgain(let reason) = refused else {
            Issue.record("\(String(describing: refused))")
            return
        }
        #expect(reason.contains("draining for kexec"))
        #expect(try tdxctl(host, "drain", "--undo").status == 0)
        #expect(try host.create("web4").state == .runnable)
        #expect(try tdxctl(host, "drain", "--status").json["purpose"] == .null)
    }

    @Test func `a drain outlives tdxd, which goes on with it`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        // Its holder is stuck, so that the drain cannot end before tdxd dies.
        kill(domain.holderPID, SIGSTOP)
        let late = try tdxctl(host, "drain", "--for", "shutdown", "--deadline", "1s")
        #expect(late.status == 75 && late.json["ready"] == .bool(false))
        #expect(!late.json["blockers"].elements.isEmpty)
        host.kill(.kill)
        kill(domain.holderPID, SIGCONT)
        try host.start()
        #expect(try eventually { try tdxctl(host, "drain", "--status").json["ready"] == .bool(true) }, "\(host.log)")
        #expect(host.leavesNothing())
        guard case .tryAgain = refusal({ _ = try host.create("web2") }) else {
            Issue.record("the next tdxd lets TDs in")
            return
        }
    }

    @Test func `a module update leaves running TDs alone`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let drained = try tdxctl(host, "drain", "--for", "module-update")
        #expect(drained.status == 0 && drained.json["running"].number == 1)
        #expect(try host.show("web1").state == .runnable)
        guard case .tryAgain = refusal({ _ = try host.create("web2") }) else {
            Issue.record("a TD could be built during the update")
            return
        }
    }

    @Test func `a drain takes held memory back, too`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        try host.makeResident(8 << 20)
        _ = try host.stop(ManagerInterface.Stop.Parameters(name: "web1", policy: .deferred))
        #expect(try tdxctl(host, "kexec", "check").status == 1)
        #expect(try tdxctl(host, "drain", "--for", "maintenance").status == 0)
        #expect(host.leavesNothing())
    }

    @Test func `a drain does not wait for the pace at which memory comes back`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1", mebibytes: 512)
        // At this pace it would take about five minutes.
        #expect(try host.makeResident(320 << 20) == 320 << 20)
        _ = try host.stop(
            ManagerInterface.Stop.Parameters(
                name: "web1", policy: .deferred, bytesPerSecond: 1 << 20, chunkBytes: 2 << 20))
        #expect(try host.show("web1").state == .draining)
        #expect(try tdxctl(host, "drain", "--for", "maintenance").status == 0)
        #expect(host.leavesNothing())
    }

    @Test func `a TD whose holder is stopped is known page by page all the same`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1", mebibytes: 64)
        _ = try host.convert("web1", gpa: 4 << 20, bytes: 2 << 20, to: .shared)
        let before = try host.show("web1")
        #expect(before.sharedBytes == 2 << 20)
        #expect(Glibc.kill(domain.holderPID, SIGSTOP) == 0)
        defer { Glibc.kill(domain.holderPID, SIGCONT) }
        let checked = try JSONValue(host.tdxctl("kexec", "check", "--json=short"))
        let pages = checked["checks"].elements.first { $0["name"].text == "pages" }?["evidence"].text
        #expect(pages?.hasPrefix("\(before.privateBytes) bytes private, 0 converting") == true, "\(pages ?? "")")
        #expect(pages?.contains("do not say") == false)
        let shown = try host.show("web1")
        #expect(shown.privateBytes == before.privateBytes && shown.sharedBytes == 2 << 20)
        #expect(shown.reason?.contains("resident memory as last known") == true)
    }

    @Test func `what is no purpose is refused by name, and changes nothing`() throws {
        let host = try PrivateHost()
        let refused = refusal {
            let _: ManagerInterface.Drain.Reply = try host.client().call(
                ManagerInterface.Drain.method, ["purpose": "fun"],
                timeout: .seconds(30))
        }
        guard case .other(_, let message) = refused, message.contains("purpose") else {
            Issue.record("\(String(describing: refused))")
            return
        }
        #expect(try host.tdxctl("drain", "--for", "kexec", "--policy", "deferred").status == 2)
        for arguments in [["drain"], ["drain", "--for", "fun"], ["drain", "--undo", "--for", "kexec"]] {
            let result = try runProgram(
                Programs.tdxctl, arguments, environment: ["TDXD_SOCKET": host.socket], in: host.directory)
            #expect(result.status == 2)
        }
        #expect(try host.create("web1").state == .runnable)
    }

    @Test(arguments: ["", "{broken", #"{"purpose":"module_update","since":"2026-01-01T00:00:00Z","policy":"gentle"}"#])
    func `a drain record that cannot be read lets no TD in and ends none`(text: String) throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        host.kill(.kill)
        let file = try openForAppending(host.state + "/drain.json")
        #expect(write(file.rawValue, text, text.utf8.count) == text.utf8.count)
        try host.start()
        let status = try tdxctl(host, "drain", "--status").json
        #expect(status["ready"] == .bool(false) && status["running"] == .number(1), "\(status)")
        #expect(status["blockers"].elements.contains { $0.text?.contains("drain.json") == true }, "\(status)")
        #expect(throws: (any Error).self) { try host.create("web2") }
        let found = try host.show("web1")
        #expect(found.state == .runnable && found.holderPID == domain.holderPID)
        #expect(try tdxctl(host, "drain", "--undo").status == 0)
        #expect(try TextFile.read(host.state + "/drain.json.unreadable") == text)
        #expect(try host.create("web2").state == .runnable)
        #expect(try host.show("web1").state == .runnable)
    }

    @Test func `a drain record that exists but cannot be opened ends no TD`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        host.kill(.kill)
        try #require(symlink("/nowhere", host.state + "/drain.json") == 0)
        try host.start()
        #expect(throws: (any Error).self) { try host.create("web2") }
        #expect(try host.show("web1").state == .runnable)
        // It is read again: once it is away, TDs are let in without an order.
        unlink(host.state + "/drain.json")
        #expect(eventually(within: 30) { (try? host.create("web2")) != nil })
    }
}
