import ControlInterface
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing
import Varlink

/// Clients that ask for long answers and read none of them.
@Suite(.serialized) struct DeafClientTests {
    @Test func `answers that nobody read are given back to the kernel once their clients have gone`() throws {
        let host = try PrivateHost(settings: "[limits]\nconnections = 128\nconnections_per_user = 120")
        let before = try ProcessMemory.of(pid: host.pid).resident
        let call =
            Array(
                #"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.tdxd.Manager"}}"#
                    .utf8) + [0]
        var clients = try (0..<100).map { _ in RetainedDescriptor(try UnixSocket.connect(to: host.socket)) }
        let batch = Array(repeatElement(call, count: 60).joined())
        for client in clients { _ = try? UnixSocket.send(batch[...], on: client.descriptor) }
        // They ask for 200 MiB, and a socket takes 200 KiB of each.
        #expect(try eventually { try ProcessMemory.of(pid: host.pid).peakResident > before + .mebibytes(24) })
        // What one user leaves unread is bounded over all its connections.
        #expect(try ProcessMemory.of(pid: host.pid).peakResident < before + .mebibytes(128))
        clients = []
        #expect(try eventually { try ProcessMemory.of(pid: host.pid).resident <= before + .mebibytes(24) })
        let after = try ProcessMemory.of(pid: host.pid)
        Endurance.say("deaf: RSS \(before) → \(after.resident), peak \(after.peakResident)")
    }
}
