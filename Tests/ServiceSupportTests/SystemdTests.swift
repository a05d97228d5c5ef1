import Glibc
import LinuxSystem
import ServiceSupport
import Testing

@Suite struct `The service manager` {
    @Test func `hears every message, one datagram each`() throws {
        let socket = try BoundSocket(SOCK_DGRAM)
        let ran = try Helper.run(["notify"], environment: ["NOTIFY_SOCKET=" + socket.path])
        #expect(ran.exit == .exited(status: 0) && ran.output == ["sent true", "refused 22", "watchdog none"])
        var heard = socket.datagrams()
        try #require(heard.count == 7)
        let reloading = heard.remove(at: 1)
        #expect(
            heard == [
                "READY=1\nSTATUS=two lines", "EXTEND_TIMEOUT_USEC=1500000", "WATCHDOG=1",
                "FDSTORE=1\nFDNAME=web1-0\nFDPOLL=0", "FDSTOREREMOVE=1\nFDNAME=web1-0", "STOPPING=1",
            ])
        #expect(reloading.hasPrefix("RELOADING=1\nMONOTONIC_USEC="))
        #expect(UInt64(reloading.dropFirst("RELOADING=1\nMONOTONIC_USEC=".count)).map { $0 > 0 } == true)
    }

    @Test func `that is not there is no error`() throws {
        let ran = try Helper.run(["notify"])
        #expect(ran.exit == .exited(status: 0) && ran.output == ["sent false", "refused 22", "watchdog none"])
    }

    @Test func `that has gone away is an error`() throws {
        let ran = try Helper.run(["notify"], environment: ["NOTIFY_SOCKET=/nonexistent/notify"])
        #expect(ran.exit == .exited(status: 1))
        #expect(ran.output.first?.hasPrefix("failed: sd_notify: ENOENT") == true)
    }

    @Test func `says how often it wants to hear of the watchdog`() throws {
        let ran = try Helper.run(
            ["notify"], environment: ["WATCHDOG_USEC=20000000"], shell: "WATCHDOG_PID=$$ exec \"$@\"")
        #expect(ran.output.last == "watchdog 20.0 seconds")
    }

    @Test func `passes sockets by name, and what nobody takes is closed`() throws {
        let socket = try BoundSocket(SOCK_STREAM)
        let ran = try Helper.run(
            ["listen"], environment: ["LISTEN_FDS=3", "LISTEN_FDNAMES=control:web1-0:web1-0"],
            descriptors: [(socket.descriptor, 3), (socket.descriptor, 4), (socket.descriptor, 5)],
            shell: "LISTEN_PID=$$ exec \"$@\"")
        #expect(
            ran.output == [
                "names control web1-0 web1-0", "control listening true cloexec true", "left web1-0 web1-0",
                "again none", "environment clean", "closed true",
            ])
    }

    @Test func `that passed sockets to another process passed none to this one`() throws {
        let socket = try BoundSocket(SOCK_STREAM)
        let ran = try Helper.run(
            ["listen"], environment: ["LISTEN_FDS=1", "LISTEN_PID=1"], descriptors: [(socket.descriptor, 3)])
        #expect(ran.output.first == "names ")
    }
}
