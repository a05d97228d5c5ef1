import ControlInterface
import FoundationEssentials
import LinuxSystem
import Testing
import Varlink

/// The whole main job by the real programs, as an admin would do it.
@Suite(.serialized) struct MainJobTests {
    static let backends = Programs.hasKVM ? ["memfd", "auto"] : ["memfd"]

    /// 256 MiB.
    static let memory = 268_435_456.0

    /// What other tools rely on in a TD's JSON.
    static let domainKeys: Set<String> = [
        "name", "id", "state", "backend", "memory_bytes", "private_bytes", "shared_bytes", "converting_bytes",
        "resident_bytes", "vcpus", "key_id", "holder_pid", "mrtd",
    ]

    @Test(.enabled(if: Programs.hasFirmware, "no \(Programs.firmware): install the package ovmf"), arguments: backends)
    func `a TD lives from its firmware image to its certificate, and nothing is left`(backend: String) throws {
        let host = try PrivateHost(backend: backend)
        let ok = try JSONValue(host.tdxctl("ok", "--json=short"))
        #expect(!ok["checks"].elements.isEmpty)
        for check in ok["checks"].elements { #expect(check.keys.isSuperset(of: ["name", "result", "evidence"])) }

        let made = try host.tdxctl(
            "create", "web1", "--memory", "256M", "--vcpus", "2", "--firmware", Programs.firmware, "--json=short")
        #expect(made.status == 0, "\(made)\n\(host.log)")
        let created = try JSONValue(made)
        #expect(created.keys.isSuperset(of: Self.domainKeys))
        #expect(created["name"].text == "web1")
        #expect(created["state"].text == "runnable")
        #expect(created["memory_bytes"].number == Self.memory)
        #expect(created["vcpus"].number == 2)
        #expect(created["mrtd"].text?.utf8.count == 96)
        #expect(created["holder_pid"].number.map { Int32($0) } == host.holders.first)
        #expect(backend == "auto" || created["backend"].text == "memfd")

        let listed = try JSONValue(host.tdxctl("list", "--json=short"))
        let row = try #require(listed.elements.first ?? listed["domains"].elements.first)
        #expect(row.keys.isSuperset(of: Self.domainKeys))
        let shown = try JSONValue(host.tdxctl("show", "web1", "--json=short"))
        #expect(shown["mrtd"].text == created["mrtd"].text)
        let sides = ["private_bytes", "shared_bytes", "converting_bytes"].compactMap { shown[$0].number }
        #expect(sides.reduce(0, +) >= Self.memory)
        #expect((shown["resident_bytes"].number ?? 0) > 0)

        for side in ["shared", "private"] {
            let converted = try host.tdxctl("convert", "web1", "--gpa", "0x1000000", "--size", "4M", "--to", side)
            #expect(converted.status == 0, "\(converted)")
            let map = try JSONValue(host.tdxctl("map", "web1", "--json=short"))
            let run = map["runs"].elements.first { run in
                let start = run["gpa"].number ?? 0
                return start <= 0x100_0000 && start + (run["bytes"].number ?? 0) >= 0x140_0000
            }
            #expect(run?["attribute"].text == side)
        }

        let stopped = try host.tdxctl("stop", "web1", "--json=short")
        #expect(stopped.status == 0, "\(stopped)\n\(host.log)")
        let certificate = try JSONValue(stopped)
        #expect(certificate["complete"] == .bool(true), "\(stopped)")
        #expect(certificate["backend"].text == created["backend"].text)
        #expect(certificate["holder_died"] == .bool(false))
        #expect(!certificate["phases"].elements.isEmpty)
        for phase in certificate["phases"].elements {
            #expect(phase.keys.isSuperset(of: ["name", "milliseconds", "bytes"]))
        }
        #expect(certificate["proofs"].elements.count >= 6)
        for proof in certificate["proofs"].elements {
            #expect(proof["holds"] == .bool(true), "\(proof)")
            #expect(proof.keys.isSuperset(of: ["name", "holds", "evidence"]))
        }
        #expect(host.certificateFiles.count == 1)
        #expect(host.leavesNothing())
        #expect(try host.list().isEmpty)
    }

    @Test func `the statuses of tdxctl tell what went wrong`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        #expect(try host.tdxctl("show", "nobody").status == 3)
        #expect(try host.tdxctl("stop", "nobody").status == 3)
        #expect(try host.tdxctl("create", "a", "--memory", "64M", "--firmware", "/nonexistent").status == 1)
        #expect(try host.tdxctl("create", "a", "--memory", "1023G").status == 5)
        _ = try host.create("a")
        #expect(try host.tdxctl("create", "a", "--memory", "64M").status == 1)
        #expect(try host.tdxctl("create", "b", "--memory", "64M").status == 5)
        #expect(try host.tdxctl("list").status == 0)
        host.kill(.kill)
        #expect(try host.tdxctl("list").status == 69)
        #expect(try host.tdxctl("explain", "0xc000030000000001").status == 0)
    }

    @Test func `the self-test runs through tdxd`() throws {
        let host = try PrivateHost(backend: "auto")
        let result = try host.tdxctl("selftest", "--json=short")
        #expect(result.status == 0, "\(result)\n\(host.log)")
        let report = try JSONValue(result)
        #expect(report["passed"] == .bool(true))
        #expect(!report["steps"].elements.isEmpty)
    }

    @Test func `the certificate on disk is the one that was answered`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        let certificate = try host.stop("web1")
        let path = "\(host.state)/certificates/web1-\(domain.id).json"
        let written = try JSONDecoder().decode(TeardownCertificate.self, from: Data(TextFile.readBytes(path)))
        #expect(written == certificate)
        #expect(written.complete)
    }

    @Test func `progress of creating and stopping comes before the end`() throws {
        let host = try PrivateHost()
        var phases: [String] = []
        var domain: TrustDomain?
        try host.client().callMore(
            ManagerInterface.Create.method,
            ManagerInterface.Create.Parameters(name: "web1", memoryBytes: 64 << 20, vcpus: 1),
            as: ManagerInterface.Create.Reply.self, timeout: .seconds(300)
        ) { reply, isLast in
            if let progress = reply.progress { phases.append(progress.phase) }
            if isLast { domain = reply.domain }
        }
        #expect(domain?.state == .runnable)
        #expect(phases.first == "start")
        phases = []
        var certificate: TeardownCertificate?
        try host.client().callMore(
            ManagerInterface.Stop.method, ManagerInterface.Show.Parameters(name: "web1"),
            as: ManagerInterface.Stop.Reply.self, timeout: .seconds(300)
        ) { reply, _ in
            if let progress = reply.progress { phases.append(progress.phase) }
            if let found = reply.certificate { certificate = found }
        }
        #expect(certificate?.complete == true)
        #expect(phases.contains("prove"))
    }
}
