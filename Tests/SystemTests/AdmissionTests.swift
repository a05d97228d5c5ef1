import ControlInterface
import LinuxSystem
import Testing
import Varlink

/// Creations that the host has no room for: refused with the reason, or waiting for their turn.
@Suite(.serialized) struct AdmissionTests {
    private static func parameters(_ name: String, mebibytes: UInt64 = 64, wait: Int64? = nil)
        -> ManagerInterface.Create.Parameters
    {
        ManagerInterface.Create.Parameters(
            name: name, memoryBytes: mebibytes << 20, vcpus: 1, waitMilliseconds: wait)
    }

    private static func create(_ host: PrivateHost, _ parameters: ManagerInterface.Create.Parameters) throws
        -> TrustDomain
    {
        let reply: ManagerInterface.Create.Reply = try host.client().call(
            ManagerInterface.Create.method, parameters, timeout: .seconds(300))
        return try #require(reply.domain)
    }

    @Test func `a creation that waits gets the key id of a TD that ends, and tells meanwhile what it waits for`() throws
    {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        _ = try host.create("web1")
        #expect(refusal { _ = try host.create("web2") } == .noKeyAvailable(capacity: 1, inUse: 1))
        let results = inParallel(2) { index -> (steps: [Progress], domain: TrustDomain?) in
            guard index == 0 else {
                // The other has said that it waits.
                #expect(eventually { host.log.contains("creation waits") })
                #expect(try! host.stop("web1").complete)
                return ([], nil)
            }
            var steps: [Progress] = []
            var domain: TrustDomain?
            try? host.client().callMore(
                ManagerInterface.Create.method, Self.parameters("web2", wait: 120_000),
                as: ManagerInterface.Create.Reply.self, timeout: .seconds(300)
            ) { reply, _ in
                if let step = reply.progress { steps.append(step) }
                domain = reply.domain ?? domain
            }
            return (steps, domain)
        }
        #expect(results[0].domain?.state == .runnable)
        #expect(results[0].steps.first?.phase == "wait")
        #expect(results[0].steps.first?.detail?.contains("no key id is free") == true)
        #expect(try host.stop("web2").complete && host.leavesNothing())
    }

    @Test func `those that wait are served in their order`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        _ = try host.create("web0")
        let order = inParallel(4) { index -> UInt64 in
            if index == 3 {
                #expect(eventually { host.log.split(separator: "\n").count { $0.contains("creation waits") } == 3 })
                #expect(try! host.stop("web0").complete)
                return 0
            }
            // One after the other, so that their order is known.
            #expect(
                eventually { host.log.split(separator: "\n").count { $0.contains("creation waits") } == index })
            let domain = try? Self.create(host, Self.parameters("web\(index + 1)", wait: 120_000))
            let now = MonotonicInstant.now.nanoseconds
            #expect(domain?.state == .runnable)
            #expect((try? host.stop("web\(index + 1)").complete) == true)
            return now
        }
        #expect(order[0] < order[1] && order[1] < order[2])
        #expect(host.leavesNothing())
    }

    @Test func `a wait that is over, a client that leaves and a host that leaves end a wait, and take nothing`() throws
    {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        _ = try host.create("web1")
        #expect(
            refusal { _ = try Self.create(host, Self.parameters("web2", wait: 100)) }
                == .noKeyAvailable(capacity: 1, inUse: 1))
        do {
            let client = try host.client()
            try? client.callMore(
                ManagerInterface.Create.method, Self.parameters("web3", wait: 120_000),
                as: ManagerInterface.Create.Reply.self, timeout: .milliseconds(300)
            ) { _, _ in }
        }
        #expect(eventually { host.log.contains("a creation is dropped") })
        #expect(try host.stop("web1").complete)
        #expect(try host.list().isEmpty && host.leavesNothing())
        // The place in the queue is free again, too.
        _ = try Self.create(host, Self.parameters("web4", wait: 60_000))
        let results = inParallel(2) { index -> ControlError? in
            guard index == 0 else {
                #expect(eventually { host.log.contains("web5") })
                _ = host.kill(.terminate)
                return nil
            }
            return refusal { _ = try Self.create(host, Self.parameters("web5", wait: 120_000)) }
        }
        #expect(results.first == .tryAgain(reason: "tdxd is stopping"))
    }

    @Test func `what waiting cannot bring is refused at once`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        #expect(
            refusal { _ = try Self.create(host, Self.parameters("web1", wait: 120_000)) } == .nameTaken(name: "web1"))
        // More than the host has.
        guard
            case .insufficientMemory? = refusal({
                _ = try Self.create(host, Self.parameters("web2", mebibytes: 1 << 19, wait: 120_000))
            })
        else {
            Issue.record("512 GiB were not refused for want of memory")
            return
        }
        guard
            case .invalidField("wait_ms", _, _)? = refusal({
                _ = try Self.create(host, Self.parameters("web2", wait: 0))
            })
        else {
            Issue.record("no time is no time to wait")
            return
        }
        #expect(try host.tdxctl("create", "web2", "--memory", "64M", "--wait", "soon").status == 2)
    }

    @Test func `refusals tell the configured limit of TDs from want of key ids`() throws {
        let host = try PrivateHost(settings: "[limits]\ntrust_domains = 1")
        _ = try host.create("web1")
        #expect(
            refusal { _ = try host.create("web2") }
                == .limitReached(resource: .trustDomains, needed: 1, available: 0, limit: "1 TD, as configured"))
        let refused = try host.tdxctl("create", "web2", "--memory", "64M", "--wait", "200ms")
        #expect(refused.status == 5 && refused.errors.contains("trust_domains"))
    }
}
