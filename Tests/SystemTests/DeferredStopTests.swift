import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// Ends that are answered before they are over: memory that is held, given back at a pace, or late.
@Suite(.serialized) struct DeferredStopTests {
    typealias Stop = ManagerInterface.Stop.Parameters
    static let size: UInt64 = 48 << 20

    /// A TD with memory that takes 24 s to come back at 2 MiB a second.
    private static func makeDomain(_ host: PrivateHost) throws -> TrustDomain {
        let domain = try host.create("web1", mebibytes: 64)
        try #require(try host.makeResident(size) == size)
        return domain
    }

    @Test func `a deferred stop ends the TD and holds its memory until that is asked for`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        let domain = try Self.makeDomain(host)
        let stopped = try host.stop(Stop(name: "web1", policy: .deferred))
        #expect(!stopped.complete && stopped.pending?.contains("tdxctl reclaim web1") == true)
        #expect(stopped.phases.map(\.name.rawValue) == ["quiesce", "terminate"])
        #expect(stopped.path == .terminateFirst)
        let shown = try host.show("web1")
        #expect(shown.state == .draining && shown.reason == stopped.pending)
        #expect(shown.residentBytes.map { $0 >= Self.size } == true)
        // Nothing of it is free for others: not the key id, not the name.
        #expect(refusal { _ = try host.create("web2") } == .noKeyAvailable(capacity: 1, inUse: 1))
        #expect(refusal { _ = try host.create("web1") } == .nameTaken(name: "web1"))
        #expect(
            refusal { _ = try host.convert("web1", gpa: 0, bytes: 4096, to: .shared) }
                == .wrongState(name: "web1", state: "draining", operation: "convert"))
        let certificate = try host.reclaim("web1")
        #expect(certificate.complete, "\(certificate)")
        #expect(certificate.id == domain.id && certificate.policy == "deferred" && certificate.pending == nil)
        #expect(certificate.releasedBytes >= Self.size)
        #expect(certificate.startedAt == stopped.startedAt)
        #expect(certificate.phases.map(\.name.rawValue).prefix(4) == ["quiesce", "terminate", "release", "close"])
        #expect(host.leavesNothing())
        #expect(host.certificateFiles.count == 1)
        #expect(try host.create("web1").keyID == domain.keyID)
    }

    @Test func `memory that is held stays held when tdxd is killed`() throws {
        let host = try PrivateHost()
        _ = try Self.makeDomain(host)
        let stopped = try host.stop(Stop(name: "web1", policy: .deferred))
        host.kill(.kill)
        try host.start()
        #expect(eventually { (try? host.show("web1").reason) == stopped.pending }, "\(host.log)")
        #expect(try host.show("web1").residentBytes.map { $0 >= Self.size } == true)
        #expect(host.backingDescriptors > 0)
        let certificate = try host.reclaim("web1")
        #expect(certificate.complete, "\(certificate)")
        #expect(certificate.policy == "deferred" && certificate.startedAt == stopped.startedAt)
        #expect(certificate.releasedBytes >= Self.size)
        #expect(host.leavesNothing())
    }

    @Test func `a holder that dies with held memory is reaped by tdxd, with what was done before`() throws {
        let host = try PrivateHost()
        let domain = try Self.makeDomain(host)
        _ = try host.stop(Stop(name: "web1", policy: .deferred))
        kill(domain.holderPID, SIGKILL)
        #expect(try eventually { try host.show("web1").state == .failed }, "\(host.log)")
        let certificate = try host.stop("web1")
        #expect(certificate.holderDied && certificate.complete, "\(certificate)")
        #expect(certificate.path == .terminateFirst && certificate.policy == "deferred")
        #expect(certificate.releasedBytes >= Self.size)
        #expect(certificate.phases.map(\.name.rawValue).prefix(4) == ["quiesce", "terminate", "death", "reap"])
        #expect(host.leavesNothing())
    }

    @Test func `a pace bounds what comes back, a deadline the wait, and a reclaim hurries`() throws {
        let host = try PrivateHost()
        _ = try Self.makeDomain(host)
        let late = try runProgram(
            Programs.tdxctl,
            ["stop", "web1", "--rate", "2M", "--chunk", "2M", "--deadline", "1s", "--json=short"],
            environment: ["TDXD_SOCKET": host.socket], in: host.directory)
        #expect(late.status == 75)
        let pending = try JSONValue(late)
        #expect(pending["complete"] == .bool(false) && pending["pending"].text?.contains("deadline of 1s") == true)
        #expect(host.holders.count == 1)
        // It would take 23 s more.
        #expect(try host.list().map(\.state) == [.draining])
        let hurried = try JSONValue(host.tdxctl("reclaim", "--all", "--json=short"))
        #expect(hurried.elements.map { $0["complete"] } == [.bool(true)])
        #expect(
            hurried.elements.first?["phases"].elements.contains { $0["detail"].text?.contains("at most") == true }
                == false)
        #expect(try host.list().isEmpty)
        #expect(host.leavesNothing())
    }

    @Test func `who waits only for the stop leaves memory on its way, which another can hurry`() throws {
        let host = try PrivateHost()
        let domain = try Self.makeDomain(host)
        let stopped = try host.stop(
            Stop(name: "web1", bytesPerSecond: 2 << 20, chunkBytes: 2 << 20, wait: .stopped))
        #expect(stopped.pending?.contains("at most 2 MiB a second") == true)
        #expect(try host.show("web1").state == .draining)
        #expect(
            refusal { _ = try host.stop("web1") } == .wrongState(name: "web1", state: "draining", operation: "stop"))
        let certificate = try host.reclaim("web1")
        #expect(certificate.complete && certificate.id == domain.id, "\(certificate)")
        #expect(certificate.releasedBytes >= Self.size)
        #expect(try host.list().isEmpty)
        #expect(host.leavesNothing())
    }

    @Test func `memory on its way is waited for by the next tdxd, and can be hurried there`() throws {
        let host = try PrivateHost()
        _ = try Self.makeDomain(host)
        _ = try host.stop(Stop(name: "web1", bytesPerSecond: 2 << 20, chunkBytes: 2 << 20, wait: .stopped))
        host.kill(.kill)
        try host.start()
        #expect(host.holders.count == 1)
        let certificate = try host.reclaim("web1")
        #expect(certificate.holderDied == false && certificate.policy == "auto", "\(certificate)")
        #expect(host.leavesNothing())
    }

    @Test func `an orderly end of tdxd that drains does not leave held memory behind`() throws {
        let host = try PrivateHost(onStop: "drain")
        _ = try Self.makeDomain(host)
        _ = try host.stop(Stop(name: "web1", policy: .deferred))
        #expect(host.kill(.terminate) == .exited(status: 0))
        #expect(host.holders.isEmpty && host.holderDirectories.isEmpty, "\(host.log)")
        #expect(host.certificateFiles.count == 1)
    }

    @Test func `only held memory is reclaimed, and all of it with --all`() throws {
        let host = try PrivateHost(settings: "[teardown]\npolicy = deferred")
        _ = try host.create("web1")
        _ = try host.create("web2")
        _ = try host.create("web3")
        #expect(
            refusal { _ = try host.reclaim("web1") }
                == .wrongState(name: "web1", state: "runnable", operation: "reclaim"))
        #expect(refusal { _ = try host.reclaim("web9") } == .noSuchDomain(name: "web9"))
        #expect(try host.tdxctl("stop", "web1").status == 0)
        #expect(try host.tdxctl("stop", "web2").status == 0)
        #expect(try host.tdxctl("certificate", "show", "web1").status == 75)
        let plan = try JSONValue(host.tdxctl("stop", "web3", "--dry-run", "--json=short"))
        let steps = plan["steps"].elements.map { $0["name"].text }
        #expect(steps.firstIndex(of: "hold").map { steps[$0 + 1] } == "release")
        let all = try JSONValue(host.tdxctl("reclaim", "--all", "--json=short"))
        #expect(all.elements.map { $0["complete"] } == [.bool(true), .bool(true)])
        #expect(try host.list().map(\.name) == ["web3"])
        #expect(try host.tdxctl("certificate", "show", "web1").status == 0)
    }
}
