import ControlInterface
import Glibc
import LinuxSystem
import Testing
import Varlink

/// Memory that is mapped into a TD's page table before the TD is there. The page table is the software module's: emulated.
@Suite(.serialized) struct PrefaultTests {
    private static func parameters(_ mebibytes: UInt64, preallocate: Bool? = nil, firmware: String? = nil)
        -> ManagerInterface.Create.Parameters
    {
        ManagerInterface.Create.Parameters(
            name: "web1", memoryBytes: mebibytes << 20, vcpus: 2, firmware: firmware, preallocate: preallocate,
            prefault: true)
    }

    private static func create(_ host: PrivateHost, _ more: String...) throws -> Finished {
        try runProgram(
            Programs.tdxctl, ["create", "web1", "--memory", "48M"] + more,
            environment: ["TDXD_SOCKET": host.socket], in: host.directory)
    }

    @Test(arguments: MainJobTests.backends, [[], ["--preallocate"]])
    func `a pre-faulted TD has all its private memory, and gives all of it back`(
        backend: String, more: [String]
    ) throws {
        let host = try PrivateHost(backend: backend)
        let made = try JSONValue(
            runProgram(
                Programs.tdxctl, ["create", "web1", "--memory", "48M", "--prefault", "--json=short"] + more,
                environment: ["TDXD_SOCKET": host.socket], in: host.directory))
        #expect(made["state"].text == "runnable" && made["emulated"] == .bool(true), "\(made)")
        // Null on a kernel that cannot count.
        let counts = made["resident_private_bytes"] != .null
        if counts {
            #expect(made["resident_private_bytes"].number == Double(48 << 20), "\(made)")
            #expect(made["resident_shared_bytes"].number == 0)
            // Only what a conversion may double is promised still: what is left for the next one is measured.
            let refused = refusal {
                let _: ManagerInterface.Create.Reply = try host.client().call(
                    ManagerInterface.Create.method,
                    ManagerInterface.Create.Parameters(name: "huge", memoryBytes: 1 << 39, vcpus: 1),
                    timeout: .seconds(60))
            }
            guard case .insufficientMemory(_, _, let limit)? = refused else {
                Issue.record("512 GiB were not refused for want of memory: \(String(describing: refused))")
                return
            }
            #expect(limit.contains("less \(48 << 20) promised"), "\(limit)")
        }
        let certificate = try host.stop("web1")
        #expect(certificate.complete, "\(certificate)")
        if counts { #expect(certificate.releasedBytes == 48 << 20, "\(certificate)") }
        #expect(host.leavesNothing())
    }

    @Test func `progress comes by bytes, after the TD is finalized`() throws {
        let host = try PrivateHost()
        let size: UInt64 = 64 << 20
        var steps: [Progress] = []
        try host.client().callMore(
            ManagerInterface.Create.method, Self.parameters(64, preallocate: true),
            as: ManagerInterface.Create.Reply.self, timeout: .seconds(300)
        ) { reply, _ in
            if let step = reply.progress { steps.append(step) }
        }
        let prefault = steps.filter { $0.phase == "prefault" }
        #expect(prefault.first?.doneBytes == 0 && prefault.last?.doneBytes == size, "\(steps)")
        #expect(prefault.allSatisfy { $0.totalBytes == size })
        #expect(prefault.map(\.doneBytes) == prefault.map(\.doneBytes).sorted())
        var order: [String] = []
        for step in steps where order.last != step.phase { order.append(step.phase) }
        #expect(order.suffix(3) == ["allocate", "finalize", "prefault"], "\(order)")
        #expect(try host.stop("web1").complete)
    }

    @Test(.enabled(if: Programs.hasFirmware, "the package ovmf is not installed"))
    func `a measured image is the same with and without it`() throws {
        let host = try PrivateHost()
        let plain = try host.create("plain", mebibytes: 64, firmware: Programs.firmware)
        let reply: ManagerInterface.Create.Reply = try host.client().call(
            ManagerInterface.Create.method, Self.parameters(64, firmware: Programs.firmware), timeout: .seconds(300))
        #expect(plain.mrtd != nil && reply.domain?.mrtd == plain.mrtd)
        if let resident = reply.domain?.residentPrivateBytes { #expect(resident > 64 << 20, "RAM and the flash") }
        #expect(try host.stop("plain").complete && host.stop("web1").complete)
        #expect(host.leavesNothing())
    }

    @Test func `a client that leaves takes everything back, and the TD is not made`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        // It leaves with the first news of a mapping that takes seconds.
        var isMapping = false
        let outcome = Result {
            try host.client().callMore(
                ManagerInterface.Create.method, Self.parameters(1024), as: ManagerInterface.Create.Reply.self,
                timeout: .seconds(300), while: { !isMapping }
            ) { reply, _ in
                if reply.progress?.phase == "prefault" { isMapping = true }
            }
        }
        guard case .failure(VarlinkClientError.givenUp) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(try eventually { try host.list().isEmpty && host.leavesNothing() }, "\(host.log)")
        // The key id is there for the next one.
        #expect(try host.create("web2").keyID == 32)
    }

    @Test func `a holder that dies meanwhile leaves nothing but the error`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        var isKilled = false
        let refused = refusal {
            try host.client().callMore(
                ManagerInterface.Create.method, Self.parameters(1024), as: ManagerInterface.Create.Reply.self,
                timeout: .seconds(300)
            ) { reply, _ in
                guard reply.progress?.phase == "prefault", !isKilled else { return }
                isKilled = true
                for pid in host.holders { kill(pid, SIGKILL) }
            }
        }
        guard case .holderFailed("web1", _)? = refused else {
            Issue.record("\(String(describing: refused))")
            return
        }
        #expect(isKilled)
        #expect(try eventually { try host.list().isEmpty && host.leavesNothing() }, "\(host.log)")
        #expect(try host.create("web2").keyID == 32)
    }

    @Test func `where the kernel cannot it is refused by name, nothing is left, and a TD without it is made`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1\nemulated_pre_fault = no")
        let refused = try Self.create(host, "--prefault")
        #expect(refused.status == 1, "\(refused)")
        #expect(
            refused.errors.contains("KVM_PRE_FAULT_MEMORY") && refused.errors.contains("EOPNOTSUPP")
                && refused.errors.contains("KVM_CAP_PRE_FAULT_MEMORY is 0") && refused.errors.contains("--preallocate"),
            "\(refused)")
        #expect(try host.list().isEmpty && host.leavesNothing())
        let error = refusal {
            let _: ManagerInterface.Create.Reply = try host.client().call(
                ManagerInterface.Create.method, Self.parameters(48, preallocate: true), timeout: .seconds(300))
        }
        guard case .kernelRefused("KVM_PRE_FAULT_MEMORY", EOPNOTSUPP, "EOPNOTSUPP", nil, _)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try Self.create(host, "--preallocate").status == 0)
        #expect(try host.stop("web1").complete && host.leavesNothing())
    }
}
