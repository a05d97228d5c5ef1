import ControlInterface
import Glibc
import LinuxSystem
import Testing
import Varlink

/// tdxd starts no holder itself: its launcher does, and each of the two may die without the other's TDs being lost.
@Suite(.serialized) struct LauncherTests {
    /// tdxd's children that are launchers, by number.
    static func launchers(of host: PrivateHost) -> [Int32] {
        ((try? TextFile.list("/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            guard let line = try? TextFile.read("/proc/\(pid)/cmdline", limit: 64 << 10) else { return false }
            return line.contains("\0launch\0") && line.contains("\0\(host.runtime)\0")
        }
    }

    static func field(_ name: String, of path: String) throws -> Int? {
        try TextFile.read(path).split(separator: "\n").first { $0.hasPrefix(name + ":") }
            .flatMap { Int($0.split(whereSeparator: \.isWhitespace).last ?? "") }
    }

    @Test func `every thread of tdxd has two filters, its launcher one, and no holder is tdxd's child`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        let launcher = try #require(Self.launchers(of: host).first)
        #expect(Self.launchers(of: host).count == 1)
        #expect(try Self.field("PPid", of: "/proc/\(launcher)/status") == Int(host.pid))
        #expect(try Self.field("PPid", of: "/proc/\(domain.holderPID)/status") == Int(launcher))
        for pid in [host.pid, launcher, domain.holderPID] {
            #expect(try Self.field("NoNewPrivs", of: "/proc/\(pid)/status") == 1)
            #expect(try Self.field("Seccomp", of: "/proc/\(pid)/status") == 2)
        }
        // The kernel tells how many since Linux 5.9.
        guard let own = try Self.field("Seccomp_filters", of: "/proc/self/status") else { return }
        let threads = try TextFile.list("/proc/\(host.pid)/task")
        #expect(threads.count > 5)
        for thread in threads {
            // A thread of a pool may have gone meanwhile.
            guard let count = try? Self.field("Seccomp_filters", of: "/proc/\(host.pid)/task/\(thread)/status") else {
                continue
            }
            #expect(count == own + 2, "thread \(thread)")
        }
        #expect(try Self.field("Seccomp_filters", of: "/proc/\(launcher)/status") == own + 1)
        // What it inherits of the launcher, and its own.
        #expect(try Self.field("Seccomp_filters", of: "/proc/\(domain.holderPID)/status") == own + 2)
        #expect(try host.stop("web1").complete)
    }

    @Test func `a killed launcher ends tdxd in order, whatever on_stop says; TDs go on, and the next tdxd has them`()
        throws
    {
        let host = try PrivateHost(onStop: "drain")
        let domain = try host.create("web1")
        let launcher = try #require(Self.launchers(of: host).first)
        kill(launcher, SIGKILL)
        // As EX_SOFTWARE, which Restart=on-failure takes up.
        #expect(try host.waitForEnd() == .exited(status: 70))
        #expect(host.log.contains("the launcher of holders has ended; tdxd ends, and TDs go on"), "\(host.log)")
        #expect(host.holders == [domain.holderPID])
        #expect(host.certificateFiles.isEmpty)
        try host.start()
        #expect(try host.show("web1").id == domain.id)
        #expect(Self.launchers(of: host).count == 1)
        _ = try host.create("web2")
        #expect(try host.stop("web1").complete && host.stop("web2").complete)
        #expect(eventually { host.leavesNothing() })
    }

    @Test func `while its launcher has ended tdxd refuses what would take a holder, and says why`() throws {
        let host = try PrivateHost(settings: "[deadlines]\nholder_start = 2s")
        let domain = try host.create("web1")
        let client = try host.client()
        // Something is under way, so that tdxd does not end at once: a stop of a holder that does not answer.
        kill(domain.holderPID, SIGSTOP)
        let stop = try SystemThread(name: "stop") { _ = try? host.stop("web1") }
        #expect(try eventually { try host.show("web1").state == .stopping })
        kill(try #require(Self.launchers(of: host).first), SIGKILL)
        #expect(eventually { host.log.contains("the launcher of holders has ended; tdxd ends") })
        let refused = refusal {
            let _: ManagerInterface.Create.Reply = try client.call(
                ManagerInterface.Create.method,
                ManagerInterface.Create.Parameters(name: "web2", memoryBytes: 64 << 20, vcpus: 1),
                timeout: .seconds(120))
        }
        #expect(refused == .holderFailed(name: "web2", reason: "the launcher of holders has ended"))
        let tested = refusal {
            let _: ManagerInterface.SelfTest.Reply = try client.call(
                ManagerInterface.SelfTest.method, timeout: .seconds(120))
        }
        #expect(tested == .holderFailed(name: "selftest", reason: "the launcher of holders has ended"))
        kill(domain.holderPID, SIGCONT)
        #expect(try host.waitForEnd() == .exited(status: 70))
        stop.join()
    }

    @Test func `a launcher that is stuck refuses a create in time, and nothing of it is left`() throws {
        let host = try PrivateHost(settings: "[deadlines]\nholder_start = 500ms")
        let launcher = try #require(Self.launchers(of: host).first)
        kill(launcher, SIGSTOP)
        guard case .holderFailed("web1", let reason)? = refusal({ _ = try host.create("web1") }) else {
            Issue.record("it was made, or refused otherwise")
            return
        }
        #expect(reason.contains("the launcher of holders does not answer in 500ms"))
        #expect(try host.list().isEmpty)
        kill(launcher, SIGCONT)
        // What it starts now is wanted by nobody.
        #expect(eventually { host.leavesNothing() })
    }

    @Test func `a killed tdxd takes its launcher with it, also a stuck one, and leaves holders`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        let launcher = try #require(Self.launchers(of: host).first)
        kill(launcher, SIGSTOP)
        host.kill(.kill)
        #expect(eventually { Self.launchers(of: host).isEmpty })
        #expect(host.holders == [domain.holderPID])
        try host.start()
        #expect(try host.show("web1").id == domain.id)
        let certificate = try host.stop("web1")
        #expect(certificate.complete)
    }

    @Test func `how a holder ended is in its TD's certificate, told by the launcher`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        let certificate = try host.stop("web1")
        let proof = try #require(certificate.proofs.first { $0.name == "holder_gone" })
        #expect(proof.holds && proof.evidence.contains("exited with status 0"), "\(proof)")
    }
}
