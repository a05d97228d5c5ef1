import Glibc
import LinuxSystem
import SystemPackage
import Testing
import Varlink

/// What systemd does, done by the test: a socket that is passed, and a place to notify.
@Suite struct ServiceManagerTests {
    /// A datagram socket as NOTIFY_SOCKET names one.
    struct NotifySocket {
        let path: String
        let descriptor: RetainedDescriptor

        init(path: String) throws {
            self.path = path
            let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
            guard number >= 0 else { throw LinuxError("socket", Errno(rawValue: errno)) }
            descriptor = RetainedDescriptor(OwnedDescriptor(taking: number))
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let result = withUnsafePointer(to: address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            guard result == 0 else { throw LinuxError("bind", Errno(rawValue: errno), detail: path) }
        }

        /// Every message that has come, in order.
        func messages() -> [String] {
            var found: [String] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = recv(descriptor.rawValue, &buffer, buffer.count, Int32(MSG_DONTWAIT))
                guard count > 0 else { return found }
                found.append(String(decoding: buffer[..<count], as: UTF8.self))
            }
        }
    }

    @Test func `tdxd serves the socket that it is passed, and tells how it is`() throws {
        let host = try PrivateHost(start: false)
        let passed = try UnixSocket.listen(at: host.directory + "/passed")
        // systemd's sockets wait: a tdxd that accepts until nobody is left would wait for the next client for ever.
        #expect(fcntl(passed.rawValue, F_SETFL, fcntl(passed.rawValue, F_GETFL) & ~O_NONBLOCK) == 0)
        let notify = try NotifySocket(path: host.directory + "/notify")
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
        var messages: [String] = []
        let isReady = eventually {
            messages += notify.messages()
            return messages.contains("READY=1")
        }
        #expect(isReady, "\(messages) \(host.log)")
        #expect(messages.contains { $0.hasPrefix("STATUS=0 TDs running") })
        // Clients reach it by the passed socket, and there is no other.
        let info: ServiceInfo = try VarlinkClient.connect(host.directory + "/passed").call(
            "org.varlink.service.GetInfo")
        #expect(info.interfaces.contains("io.tdxd.Manager"))
        #expect(access(host.socket, F_OK) != 0)
        try tdxd.send(.hangUp)
        #expect(
            eventually {
                messages += notify.messages()
                return messages.contains { $0.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") }
            })
        try tdxd.send(.terminate)
        #expect(try tdxd.wait() == .exited(status: 0))
        messages += notify.messages()
        #expect(messages.contains("STOPPING=1"))
        // A passed socket is systemd's to remove.
        #expect(access(host.directory + "/passed", F_OK) == 0)
    }
}
