import ControlInterface
import Glibc
import LinuxSystem
import Testing
import Varlink

/// Memory that is there before the TD is.
@Suite(.serialized) struct PreallocateTests {
    @Test(arguments: MainJobTests.backends)
    func `a preallocated TD has all its private memory, and gives all of it back`(backend: String) throws {
        let host = try PrivateHost(backend: backend)
        let made = try JSONValue(
            runProgram(
                Programs.tdxctl, ["create", "web1", "--memory", "96M", "--preallocate", "--json=short"],
                environment: ["TDXD_SOCKET": host.socket], in: host.directory))
        #expect(made["resident_private_bytes"].number == Double(96 << 20), "\(made)")
        let certificate = try host.stop("web1")
        #expect(certificate.complete && certificate.releasedBytes == 96 << 20, "\(certificate)")
        #expect(host.leavesNothing())
    }

    @Test func `progress comes by bytes`() throws {
        let host = try PrivateHost()
        var steps: [Progress] = []
        try host.client().callMore(
            ManagerInterface.Create.method,
            ManagerInterface.Create.Parameters(name: "web1", memoryBytes: 256 << 20, vcpus: 1, preallocate: true),
            as: ManagerInterface.Create.Reply.self, timeout: .seconds(60)
        ) { reply, _ in
            if let step = reply.progress, step.phase == "allocate" { steps.append(step) }
        }
        #expect(steps.first?.doneBytes == 0 && steps.last?.doneBytes == 256 << 20, "\(steps)")
        #expect(steps.allSatisfy { $0.totalBytes == 256 << 20 })
    }

    @Test func `a client that leaves takes everything back`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        // It leaves with the first news of the allocation, of 2 GiB that take a while.
        var hasBegun = false
        #expect(throws: VarlinkClientError.self) {
            try host.client().callMore(
                ManagerInterface.Create.method,
                ManagerInterface.Create.Parameters(name: "web1", memoryBytes: 2 << 30, vcpus: 1, preallocate: true),
                as: ManagerInterface.Create.Reply.self, timeout: .seconds(60), while: { !hasBegun }
            ) { reply, _ in
                if reply.progress?.phase == "allocate" { hasBegun = true }
            }
        }
        // Whichever was first, the client's leaving or the end of the work, nothing stays half done.
        #expect(
            try eventually {
                let domains = try host.list()
                return domains.isEmpty ? host.leavesNothing() : domains.allSatisfy { $0.state == .runnable }
            }, "\(host.log)")
        if try !host.list().isEmpty { #expect(try host.stop("web1").complete) }
        #expect(try host.create("web1").keyID == 32)
    }
}
