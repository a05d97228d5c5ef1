import ControlInterface
import Testing

/// How a TD is ended: what was asked for, what was configured, what the kernel can.
@Suite(.serialized) struct StopPolicyTests {
    @Test func `a dry run names the steps in their order and changes nothing`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1", vcpus: 2)
        let plan = try JSONValue(host.tdxctl("stop", "web1", "--dry-run", "--json=short"))
        #expect(plan["path"].text == "terminate-first" && plan["policy"].text == "auto")
        #expect(plan["emulated"] == .bool(true) && plan["vcpus"].number == 2)
        #expect(plan["estimate"]["model"] == .bool(true))
        #expect(plan["resident_private_bytes"].number == domain.residentPrivateBytes.map { Double($0) })
        #expect(plan["page_reset"].text?.hasPrefix("none: the TDX module is emulated") == true)
        #expect(try host.show("web1").state == .runnable)
        let certificate = try host.stop("web1")
        #expect(certificate.complete && certificate.pageReset == plan["page_reset"].text)
        // What was planned is what was done; a reap comes only where a holder left something.
        #expect(plan["steps"].elements.map { $0["name"].text } == certificate.phases.map { $0.name.rawValue })
        #expect(try host.tdxctl("stop", "web1", "--dry-run").status == 3)
    }

    @Test func `terminate-first is refused where the kernel cannot, and the TD lives on`() throws {
        let host = try PrivateHost(settings: "emulated_terminate = absent")
        _ = try host.create("web1")
        for extra in [["--dry-run"], []] {
            let refused = try runProgram(
                Programs.tdxctl, ["stop", "web1", "--policy", "terminate-first"] + extra,
                environment: ["TDXD_SOCKET": host.socket], in: host.directory)
            #expect(refused.status == 1)
            #expect(refused.errors.contains("KVM_TDX_TERMINATE_VM"))
        }
        #expect(try host.show("web1").state == .runnable)
        #expect(host.holders.count == 1)
        let stopped = try JSONValue(host.tdxctl("stop", "web1", "--json=short"))
        #expect(stopped["path"].text == "dynamic-removal" && stopped["policy"].text == "auto")
        #expect(stopped["complete"] == .bool(true))
        #expect(host.leavesNothing())
    }

    @Test func `the configured policy holds unless a client says otherwise`() throws {
        let host = try PrivateHost(settings: "[teardown]\npolicy = dynamic-removal")
        for (policy, path) in [(nil, "dynamic-removal"), ("terminate-first", "terminate-first")] as [(String?, String)]
        {
            _ = try host.create("web1")
            let arguments = ["stop", "web1", "--json=short"] + (policy.map { ["--policy", $0] } ?? [])
            let stopped = try JSONValue(
                runProgram(
                    Programs.tdxctl, arguments, environment: ["TDXD_SOCKET": host.socket], in: host.directory))
            #expect(stopped["path"].text == path)
            #expect(stopped["policy"].text == policy ?? "dynamic-removal")
            #expect(stopped["complete"] == .bool(true))
        }
        #expect(try host.tdxctl("stop", "web1", "--policy", "at-once").status == 2)
    }
}
