import ControlInterface
import Glibc
import LinuxSystem
import SystemPackage
import Testing

/// Holders that are killed, and the process that sees to their VM then. No kernel at hand has KVM_TDX_TERMINATE_VM, so it is
/// rehearsed: on the real VM under an emulated TD, with a call that KVM answers only for the address space that created it.
@Suite(.serialized, .enabled(if: Programs.hasBackingVM, "no backend here has a VM of the kernel's"))
struct LastWillTests {
    private static func makeHost(_ settings: String = "") throws -> PrivateHost {
        try PrivateHost(backend: "auto", settings: "emulated_last_will = yes\n\(settings)")
    }

    /// The second process of a TD. It has the holder's command line and the record's word.
    private static func will(of domain: TrustDomain, _ host: PrivateHost) throws -> Int32 {
        let record = try #require(
            try LastWillRecord.read(at: host.runtime + "/holders/\(domain.id)/last-will", patience: .zero))
        #expect(record.record.state == .armed && record.record.isRehearsal && !record.isFinal)
        let pid = record.record.pid
        #expect(pid != domain.holderPID)
        #expect(try TextFile.read("/proc/\(pid)/comm") == "tdx-last-will\n")
        return pid
    }

    /// What tdxd has said of the end of a TD whose holder died by itself.
    private static func certificate(_ host: PrivateHost) throws -> TeardownCertificate {
        #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() }, "\(host.log)")
        return try host.stop("web1")
    }

    /// It has ended, whether or not somebody has reaped it.
    private static func isGone(_ pid: Int32) -> Bool {
        ((try? TextFile.read("/proc/\(pid)/cmdline", limit: 64 << 10)) ?? "").isEmpty
    }

    private static func phase(_ certificate: TeardownCertificate) -> TeardownPhase? {
        certificate.phases.first { $0.name == .lastWill }
    }

    @Test
    func `KVM answers the last will of a holder that is killed, before any memory is punched`() throws {
        let host = try Self.makeHost()
        let domain = try host.create("web1")
        #expect(domain.lastWill == .rehearsal)
        #expect(try host.show("web1").lastWill == .rehearsal)
        let will = try Self.will(of: domain, host)
        kill(domain.holderPID, SIGKILL)
        let certificate = try Self.certificate(host)
        let phase = try #require(Self.phase(certificate), "\(certificate)\n\(host.log)")
        // EIO would be the answer to any other process.
        #expect(phase.detail?.contains("KVM_CHECK_EXTENSION was answered") == true, "\(phase)")
        #expect(phase.detail?.contains("rehearsal by process \(will)") == true && phase.calls == 1)
        let names = certificate.phases.map(\.name.rawValue)
        #expect(names.firstIndex(of: "last-will").map { names[..<$0] } == ["death"])
        #expect(certificate.holderDied && certificate.complete, "\(certificate)")
        // A rehearsal terminates nothing, and does not say so.
        #expect(certificate.path == .dynamicRemoval)
        #expect(eventually { Self.isGone(will) })
    }

    @Test func `the last will of a TD that is stopped has nothing to do, and goes with its holder`() throws {
        let host = try Self.makeHost()
        let domain = try host.create("web1")
        let will = try Self.will(of: domain, host)
        let plan = try JSONValue(host.tdxctl("stop", "web1", "--dry-run", "--json=short"))
        #expect(plan["last_will"].text == "rehearsal")
        let certificate = try host.stop("web1")
        #expect(certificate.complete && Self.phase(certificate) == nil, "\(certificate)")
        #expect(eventually { Self.isGone(will) })
        #expect(eventually { host.leavesNothing() })
    }

    @Test func `a signal for everybody but SIGKILL leaves the last will alone`() throws {
        let host = try Self.makeHost()
        let domain = try host.create("web1")
        let will = try Self.will(of: domain, host)
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGPIPE] { kill(will, signal) }
        // Stopped and continued, its wait goes on by another system call.
        kill(will, SIGSTOP)
        kill(will, SIGCONT)
        #expect(try host.show("web1").lastWill == .rehearsal)
        kill(domain.holderPID, SIGKILL)
        #expect(Self.phase(try Self.certificate(host))?.calls == 1)
    }

    @Test func `a last will that is killed with its holder is said not to have acted`() throws {
        let host = try Self.makeHost()
        let domain = try host.create("web1")
        let will = try Self.will(of: domain, host)
        kill(will, SIGKILL)
        #expect(try eventually { try host.show("web1").lastWill == nil })
        kill(domain.holderPID, SIGKILL)
        let certificate = try Self.certificate(host)
        #expect(Self.phase(certificate)?.detail == "process \(will) did not act: it had been killed, too")
        #expect(certificate.complete && certificate.path == .dynamicRemoval, "\(certificate)")
    }

    @Test func `a last will that hangs is not waited for without end`() throws {
        let host = try Self.makeHost("[deadlines]\nholder_reply = 1s")
        let domain = try host.create("web1")
        let will = try Self.will(of: domain, host)
        kill(will, SIGSTOP)
        kill(domain.holderPID, SIGKILL)
        // It has the holder's memory and descriptors, so nothing is proven while it is there.
        #expect(
            eventually {
                host.log.contains("has not ended; it is not waited for any longer") || host.certificateFiles.count == 1
            })
        kill(will, SIGCONT)
        let certificate = try Self.certificate(host)
        #expect(Self.phase(certificate)?.detail?.contains("is not waited for any longer") == true, "\(certificate)")
        #expect(certificate.holderDied)
    }

    @Test func `the next tdxd reads the last will of a holder that was killed with the former`() throws {
        let host = try Self.makeHost()
        let domain = try host.create("web1")
        _ = try Self.will(of: domain, host)
        host.kill(.kill)
        kill(domain.holderPID, SIGKILL)
        #expect(eventually { host.holders.isEmpty })
        try host.start()
        let certificate = try Self.certificate(host)
        #expect(Self.phase(certificate)?.detail?.contains("was answered") == true, "\(certificate)")
        #expect(certificate.phases.first?.name == .death)
    }

    @Test func `a TD has a last will only where there is a VM, and only if that is wanted`() throws {
        for (backend, settings) in [
            ("memfd", "emulated_last_will = yes"), ("auto", ""),
            ("auto", "emulated_last_will = yes\n[teardown]\nlast_will = no"),
        ] {
            let host = try PrivateHost(backend: backend, settings: settings)
            let domain = try host.create("web1")
            #expect(domain.lastWill == nil)
            #expect(host.holders == [domain.holderPID])
            #expect(access(host.runtime + "/holders/\(domain.id)/last-will", F_OK) == -1)
        }
    }
}

extension Programs {
    /// Whether emulated TDs have a real VM under them here.
    static let hasBackingVM: Bool = {
        var template = Array("/tmp/tdxd-probe.XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { return false }
        let place = String(cString: made)
        defer {
            for name in (try? TextFile.list(place)) ?? [] { unlink(place + "/" + name) }
            rmdir(place)
        }
        let probe = try? runProgram(Programs.directory + "/tdx-holder", ["probe", "--json"], in: place)
        return probe.flatMap { try? JSONValue($0)["backend"].text }.map { $0 != "memfd" && $0 != "tdx" } ?? false
    }()
}
