import ControlInterface
import FoundationEssentials
import Glibc
import LinuxSystem
import SystemPackage
import Testing
import Varlink

/// Users who take whatever they can get: others, admins first of all, are served as if they were not there.
@Suite(.serialized, .enabled(if: Programs.isRoot, "only root can start a program as another user"))
struct StrangersShareTests {
    /// Connections of other users, 64 each, until this goes.
    private final class Crowd {
        private let process: ProcessHandle
        private let standardInput: OwnedDescriptor

        /// - Parameters:
        ///   - call: sent on each connection.
        ///   - stays: else each is left as soon as the call is sent.
        ///   - descriptors: as many further ones each process takes.
        init(
            _ host: PrivateHost, _ uids: [UInt32], _ call: String, stays: Bool = true, descriptors: Int = 0
        ) throws {
            let program = """
                import os, socket, sys
                path, call = sys.argv[2], sys.argv[3].encode() + b"\\0"
                stays, more = sys.argv[4] == "1", int(sys.argv[5])
                held, children = [], []
                for uid in sys.argv[1].split(","):
                    r, w = os.pipe()
                    if os.fork() == 0:
                        os.setgroups([]); os.setgid(65534); os.setuid(int(uid))
                        for i in range(64):
                            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM); s.connect(path)
                            try: s.sendall(call)
                            except OSError: pass
                            if stays: held.append(s)
                            else: s.close()
                        try:
                            for i in range(more): os.dup(0)
                        except OSError: pass
                        os.write(w, b"x"); os.read(0, 1); os._exit(0)
                    children.append(r); os.close(w)
                for r in children: os.read(r, 1)
                open(sys.argv[6], "w").close()
                os.read(0, 1)
                """
            let ready = host.directory + "/crowd.\(UInt64.random(in: 0...UInt64.max))"
            var ends: [Int32] = [0, 0]
            guard pipe(&ends) == 0 else { throw LinuxError("pipe", Errno(rawValue: errno)) }
            // Or a program that another test starts would keep the crowd alive.
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            let reading = OwnedDescriptor(taking: ends[0])
            standardInput = OwnedDescriptor(taking: ends[1])
            process = try ProgramStart(
                path: "/usr/bin/python3",
                arguments: [
                    "-c", program, uids.map { "\($0)" }.joined(separator: ","), host.socket, call, stays ? "1" : "0",
                    "\(descriptors)", ready,
                ], environment: ["PATH=/usr/bin:/bin"], descriptors: [(source: reading.rawValue, target: 0)]
            ).start()
            guard eventually(within: 120, { access(ready, F_OK) == 0 }) else {
                throw LinuxError("python3", .timedOut, detail: "the crowd is not there")
            }
        }

        deinit {
            // Its children read end-of-file when the last writing end is gone.
            try? process.send(.kill)
            _ = try? process.wait()
        }
    }

    private static let getInfo = #"{"method":"org.varlink.service.GetInfo"}"#

    @Test func `users who hold every connection that they get keep no admin out`() throws {
        let host = try PrivateHost(settings: "[access]\noperate_users = 65532 65531")
        _ = try host.create("web1")
        let crowd = try Crowd(host, [65_534, 65_533, 65_532, 65_531], Self.getInfo)
        defer { withExtendedLifetime(crowd) {} }
        #expect(try host.tdxctl("list").status == 0)
        #expect(try host.stop("web1").complete)
    }

    @Test func `users without a role take no connection at all`() throws {
        let host = try PrivateHost(
            settings: "[access]\nothers = none\n[limits]\nconnections = 8\nconnections_per_user = 8")
        let crowd = try Crowd(host, [65_534, 65_533], Self.getInfo)
        defer { withExtendedLifetime(crowd) {} }
        #expect(try host.list().isEmpty)
        // One line for many.
        #expect(eventually { host.log.contains("refused a call") })
        #expect(host.log.components(of: "refused a call") <= 4)
    }

    @Test func `followers who left, and followers who wait, hold up no one and kill no holder`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        func whole() throws -> ManagerInterface.MapChanges.Reply {
            try host.client().call(
                ManagerInterface.MapChanges.method, ManagerInterface.MapChanges.Parameters(name: "web1"),
                timeout: .seconds(60))
        }
        let waiting =
            #"{"method":"io.tdxd.Manager.MapChanges","parameters":{"name":"web1","since":\#(try whole().sequence),"#
            + #""wait_ms":60000}}"#
        for _ in 0..<3 { _ = try Crowd(host, [65_534, 65_533], waiting, stays: false) }
        let crowd = try Crowd(host, [65_534, 65_533], waiting)
        defer { withExtendedLifetime(crowd) {} }
        let start = MonotonicInstant.now
        #expect(try whole().snapshot)
        #expect(MonotonicInstant.now - start < .seconds(30))
        // The holder was asked to end the TD, and answered.
        let certificate = try host.stop("web1")
        #expect(certificate.complete && !certificate.holderDied, "\(certificate)")
    }

    @Test func `a stranger with many descriptors costs an end no more than a look's time`() throws {
        let host = try PrivateHost()
        let crowd = try Crowd(host, [65_534, 65_533, 65_532, 65_531], Self.getInfo, descriptors: 100_000)
        defer { withExtendedLifetime(crowd) {} }
        _ = try host.create("web1")
        let start = MonotonicInstant.now
        let certificate = try host.stop("web1")
        #expect(certificate.complete, "\(certificate)")
        // Two looks at most are waited for.
        #expect(MonotonicInstant.now - start < .seconds(30))
    }
}
