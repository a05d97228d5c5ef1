import Glibc
import LinuxSystem
import SystemPackage
import Testing
import Varlink

/// What systemd does, done by the test: a socket that is passed, and a place to notify.
@Suite struct ServiceManagerTests {
    @Test func `tdxd serves the socket that it is passed, and tells how it is`() throws {
        let host = try PrivateHost(start: false)
        let passed = try UnixSocket.listen(at: host.directory + "/passed")
        // systemd's sockets wait: a tdxd that accepts until nobody is left would wait for the next client for ever.
        #expect(fcntl(passed.rawValue, F_SETFL, fcntl(passed.rawValue, F_GETFL) & ~O_NONBLOCK) == 0)
        let notify = try StandInManager(path: host.directory + "/notify")
        defer { notify.close() }
        let log = try openForAppending(host.directory + "/log")
        // LISTEN_PID must be the number of the process, which a shell that becomes it knows.
        let command = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=tdxd.socket exec \"$0\" \"$@\""
        let tdxd = try ProgramStart(
            path: "/bin/sh", arguments: ["-c", command, Programs.tdxd] + host.arguments,
            environment: ["PATH=/usr/bin:/bin", "NOTIFY_SOCKET=\(notify.path)"],
            descriptors: [
                (source: log.rawValue, target: 1), (source: log.rawValue, target: 2),
                (source: passed.rawValue, target: 3),
            ]
        ).start()
        #expect(eventually { notify.messages.contains("READY=1") }, "\(notify.messages) \(host.log)")
        #expect(notify.messages.contains { $0.hasPrefix("STATUS=0 TDs running") })
        // Clients reach it by the passed socket, and there is no other.
        let info: ServiceInfo = try VarlinkClient.connect(host.directory + "/passed").call(
            "org.varlink.service.GetInfo")
        #expect(info.interfaces.contains("io.tdxd.Manager"))
        #expect(access(host.socket, F_OK) != 0)
        try tdxd.send(.hangUp)
        #expect(eventually { notify.messages.contains { $0.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") } })
        try tdxd.send(.terminate)
        #expect(try tdxd.wait() == .exited(status: 0))
        #expect(eventually { notify.messages.contains("STOPPING=1") })
        // A passed socket is systemd's to remove.
        #expect(access(host.directory + "/passed", F_OK) == 0)
    }
}
