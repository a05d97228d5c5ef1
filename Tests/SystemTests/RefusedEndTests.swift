import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Terms
import Testing
import Varlink

/// Ends whose holder does not do its part, and ends that take long: no holder is killed because it could not be asked, and
/// waiting holds up no other call.
@Suite(.serialized) struct RefusedEndTests {
    /// Every connection that a holder has for the user of tdxd, as long as this lives.
    private final class Occupied {
        private var clients: [VarlinkClient] = []

        init(_ host: PrivateHost, _ domain: TrustDomain) throws {
            let socket = "\(host.runtime)/holders/\(domain.id)/socket"
            while clients.count < 128 {
                guard let client = try? VarlinkClient.connect(socket, timeout: .seconds(5)) else { break }
                do {
                    let _: HolderInterface.Describe.Reply = try client.call(HolderInterface.Describe.method)
                } catch { break }
                clients.append(client)
            }
        }

        var count: Int { clients.count }

        func leave() {
            for client in clients { client.close() }
            clients = []
        }
    }

    @Test func `a holder whose connections are all taken is stopped through those that tdxd keeps for the end`() throws
    {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        let crowd = try Occupied(host, domain)
        #expect(crowd.count > 32)
        let certificate = try host.stop("web1")
        #expect(certificate.complete && !certificate.holderDied, "\(certificate)\n\(host.log)")
        #expect(certificate.path == .terminateFirst)
        #expect(!certificate.phases.contains { $0.name == .holderLost })
        crowd.leave()
    }

    @Test func `a holder that refuses a stop is asked again until it does not, and is never killed`() throws {
        let host = try PrivateHost(settings: "[deadlines]\nstop = 5s\nholder_reply = 2s")
        let domain = try host.create("web1")
        try #require(try host.makeResident(8 << 20) == 8 << 20)
        host.kill(.kill)
        // The next tdxd gets no connection to it.
        let crowd = try Occupied(host, domain)
        try host.start()
        #expect(try host.show("web1").state == .runnable)
        // A client does not wait for ever, and hears why.
        let early = try host.stop("web1")
        #expect(early.pending?.contains("the holder does not do its part") == true, "\(early)")
        #expect(!early.complete && !early.holderDied)
        #expect(host.holders == [domain.holderPID], "it lives, whatever it refuses")
        #expect(try host.show("web1").state == .draining)
        // Others are served meanwhile.
        _ = try host.create("web2")
        #expect(try host.stop("web2").complete)
        #expect(host.holders == [domain.holderPID])
        crowd.leave()
        #expect(eventually { host.leavesNothing() && host.certificateFiles.count == 2 }, "\(host.log)")
        let certificate: ManagerInterface.GetCertificate.Reply = try host.client().call(
            ManagerInterface.GetCertificate.method,
            ManagerInterface.GetCertificate.Parameters(certificate: try TrustDomainName(checking: domain.id)))
        #expect(certificate.certificate.complete && !certificate.certificate.holderDied, "\(certificate)")
        #expect(certificate.certificate.path == .terminateFirst)
    }

    @Test func `more paced ends than tdxd has threads hold up no stop, no conversion and no reaping`() throws {
        let host = try PrivateHost(
            settings:
                "emulated_key_ids = 40\n[limits]\ntrust_domains = 40\n[teardown]\npolicy = deferred\nrate = 1MiB\n"
                + "[memory]\nrelease_chunk = 2MiB")
        let paced = 20
        for number in 0..<paced { _ = try host.create("paced\(number)", mebibytes: 16) }
        let victim = try host.create("victim", mebibytes: 16)
        _ = try host.create("other", mebibytes: 16)
        // Both files of each TD, for half a minute at this pace.
        let size = UInt64(paced + 2) * 32 << 20
        try #require(try host.makeResident(size) == size)
        for number in 0..<paced { #expect(try host.stop("paced\(number)").pending != nil) }
        // None of the threads for ends or for calls is with them.
        #expect(
            eventually { Self.threads(host, named: ["end", "work"]) == 0 }, "\(Self.threads(host, named: ["end"]))")
        #expect(try host.list().count { $0.state == .draining } == paced)
        #expect(try host.convert("other", gpa: 0, bytes: 1 << 20, to: .shared).changedBytes == 1 << 20)
        #expect(try host.stop(.init(name: "other", policy: .auto, bytesPerSecond: 1 << 30)).complete)
        kill(victim.holderPID, SIGKILL)
        #expect(try eventually { try host.show("victim").state == .failed })
        // Refused while it is being reaped.
        #expect(eventually { (try? host.stop("victim").complete) == true }, "\(host.log)")
        // A drain has them come as fast as they can.
        let drained = try host.tdxctl("drain", "--for", "shutdown")
        #expect(drained.status == 0, "\(drained)")
        #expect(host.leavesNothing())
    }

    /// Threads of tdxd with one of these names that are there now.
    private static func threads(_ host: PrivateHost, named names: Set<String>) -> Int {
        let all = (try? TextFile.list("/proc/\(host.pid)/task")) ?? []
        return all.count { thread in
            let name = (try? TextFile.read("/proc/\(host.pid)/task/\(thread)/comm", limit: 64)) ?? ""
            return names.contains(String(name.prefix { !$0.isNewline }))
        }
    }
}
