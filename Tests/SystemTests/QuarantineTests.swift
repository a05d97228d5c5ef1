import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Testing

/// A page that cannot be taken from a TD, through the real programs: the software module refuses to give it up.
@Suite(
    .serialized, .enabled(if: Programs.hasFirmware, "no \(Programs.firmware): install the package ovmf"))
struct QuarantineTests {
    /// What the guest used besides its firmware: the chunks of 2 MiB up to that of the hand-off block, at 0x809000, may be
    /// punched before the first page that the TD owns is met.
    static let used: UInt64 = 32 << 20
    static let mayBeGone: UInt64 = 10 << 20
    static let status = "0xc000030000000001"

    /// A TD whose first page that is taken from it is refused, under a service manager that keeps descriptors.
    static func host(_ settings: String = "") throws -> (PrivateHost, StandInManager) {
        let host = try PrivateHost(
            settings: "emulated_key_ids = 1\nemulated_failing_removal = 1\n\(settings)\n[memory]\nrelease_chunk = 2MiB",
            start: false)
        let manager = try StandInManager(path: host.directory + "/notify")
        try host.start(under: manager)
        _ = try host.create("web1", firmware: Programs.firmware)
        try #require(try host.makeResident(used) == used)
        return (host, manager)
    }

    /// Bytes that are resident in the files that tdxd has duplicates of.
    static func kept(_ host: PrivateHost) throws -> UInt64 {
        var bytes = ByteCount.zero
        for name in try TextFile.list("/proc/\(host.pid)/fd") {
            let path = "/proc/\(host.pid)/fd/\(name)"
            guard let target = try? TextFile.linkTarget(path), target.contains("memfd:tdxd") else { continue }
            let number = open(path, O_RDWR | O_CLOEXEC)
            guard number >= 0 else { continue }
            let file = OwnedDescriptor(taking: number)
            bytes += try FileMemory.residentBytes(descriptor: file.rawValue, offset: .zero, length: .zero)
        }
        return bytes.rawValue
    }

    /// Name, memory and key id are nobody else's, and everybody who asks is told.
    static func expectQuarantine(_ host: PrivateHost, _ kept: UInt64) throws {
        let shown = try host.show("web1")
        #expect(shown.state == .draining && shown.reason?.hasPrefix("quarantined: release: ") == true, "\(shown)")
        #expect(refusal { _ = try host.create("web1") } == .nameTaken(name: "web1"))
        #expect(refusal { _ = try host.create("web2") } == .noKeyAvailable(capacity: 1, inUse: 1))
        #expect(try Self.kept(host) == kept)
        let checked = try host.tdxctl("kexec", "check", "--json=short")
        #expect(checked.status == 1)
        let proofs = try JSONValue(checked)["checks"].elements.first { $0["name"].text == "proofs" }
        #expect(proofs?["result"].text == "fail" && proofs?["evidence"].text == "quarantined: web1")
        // Asked once more, it says the same.
        let again = try host.tdxctl("stop", "web1", "--json=short")
        #expect(again.status != 0, "\(again)")
        #expect(try JSONValue(again)["tdx_status"].text == status)
    }

    @Test(arguments: ["announced", "absent"])
    func `a TD that a page cannot be taken from is quarantined, told loudly, and stays so over restarts of tdxd`(
        terminate: String
    ) throws {
        let (host, manager) = try Self.host("emulated_terminate = \(terminate)")
        defer { manager.close() }
        let stopped = try host.tdxctl("stop", "web1", "--json=short")
        #expect(stopped.status != 0)
        let certificate = try JSONValue(stopped)
        #expect(certificate["complete"] == .bool(false) && certificate["emulated"] == .bool(true))
        #expect(certificate["path"].text == (terminate == "absent" ? "dynamic-removal" : "terminate-first"))
        #expect(certificate["tdx_status"].text == Self.status)
        let failure = certificate["failure"].text ?? ""
        #expect(failure.hasPrefix("release: ") && failure.contains("PAGE_METADATA_INCORRECT"), "\(failure)")
        #expect(failure.contains("emulated"))
        let phases = certificate["phases"].elements.compactMap { $0["name"].text }
        #expect(phases.contains("quarantine") && !phases.contains("close") && !phases.contains("reap"), "\(phases)")
        // Nothing was punched once it was known.
        let kept = try Self.kept(host)
        #expect(kept >= Self.used - Self.mayBeGone, "\(kept)")
        let withheld = certificate["phases"].elements.first { $0["name"].text == "quarantine" }
        #expect(withheld?["bytes"].number == Double(kept))
        let key = certificate["proofs"].elements.first { $0["name"].text == "key_id_returned" }
        #expect(key?["holds"] == .bool(false))
        // The holder is gone, and tdxd's duplicates are what keeps the memory.
        #expect(host.holders.isEmpty)

        let loud = host.log.split(separator: "\n").filter { $0.contains("a TD is quarantined") }
        #expect(loud.count == 1 && loud[0].contains("critical"), "\(loud)")
        #expect(loud.first?.contains("tdx_status=\(Self.status)") == true, "\(loud)")
        #expect(loud.first?.contains("tdx_status_name=PAGE_METADATA_INCORRECT") == true, "\(loud)")
        #expect(host.log.contains("a page could not be taken from a TD"))
        let text = try host.tdxctl("certificate", "show", "web1").output
        #expect(
            text.contains("INCOMPLETE") && text.contains("TDX status: \(Self.status) PAGE_METADATA_INCORRECT (RCX)"))

        try Self.expectQuarantine(host, kept)
        for signal in [Signal.kill, .terminate] {
            host.kill(signal)
            try host.start(under: manager)
            #expect(eventually { (try? host.show("web1").state) == .draining }, "\(host.log)")
            try Self.expectQuarantine(host, kept)
        }
        let drained = try host.tdxctl("drain", "--for", "kexec", "--json=short")
        #expect(drained.status == 75)
        let blockers = try JSONValue(drained)["blockers"].elements.compactMap(\.text)
        #expect(blockers.contains { $0.contains("web1 is quarantined") }, "\(blockers)")
    }

    @Test func `a failed removal that no tdxd heard of is known to the next, with the memory kept meanwhile`() throws {
        let host = try PrivateHost(
            settings: "emulated_key_ids = 1\nemulated_failing_removal = 1\nemulated_pause_at = release\n"
                + "[memory]\nrelease_chunk = 2MiB")
        let domain = try host.create("web1", firmware: Programs.firmware)
        try #require(try host.makeResident(Self.used) == Self.used)
        let answers = inParallel(2) { index -> Bool in
            index == 0 ? Self.fails(host) : Self.killUnheard(host, domain.holderPID)
        }
        #expect(answers == [true, true], "\(host.log)")
        // Nobody has duplicates: the holder keeps it, and waits.
        #expect(host.holders == [domain.holderPID])
        try host.start()
        #expect(
            eventually { (try? host.show("web1").reason?.hasPrefix("quarantined: release: ")) == true }, "\(host.log)")
        #expect(eventually { host.holders.isEmpty })
        let kept = try Self.kept(host)
        #expect(kept >= Self.used - Self.mayBeGone)
        try Self.expectQuarantine(host, kept)
    }

    @Test
    func
        `when both die behind a failed removal the next tdxd says that the kernel has the memory, and keeps the key id`()
        throws
    {
        let host = try PrivateHost(
            settings: "emulated_key_ids = 1\nemulated_failing_removal = 1\nemulated_pause_at = release")
        let domain = try host.create("web1", firmware: Programs.firmware)
        let answers = inParallel(2) { index -> Bool in
            index == 0 ? Self.fails(host) : Self.killUnheard(host, domain.holderPID)
        }
        #expect(answers == [true, true], "\(host.log)")
        Glibc.kill(domain.holderPID, SIGKILL)
        #expect(eventually { host.holders.isEmpty })
        for _ in 1...2 {
            try host.start()
            #expect(
                eventually { (try? host.show("web1").reason?.hasPrefix("quarantined: release: ")) == true },
                "\(host.log)")
            let certificate = try JSONValue(host.tdxctl("certificate", "show", "web1", "--json=short"))
            #expect(certificate["holder_died"] == .bool(true) && certificate["complete"] == .bool(false))
            let kept = certificate["phases"].elements.first { $0["name"].text == "quarantine" }?["detail"].text
            #expect(kept?.contains("the kernel has it back") == true, "\(certificate)")
            #expect(refusal { _ = try host.create("web2") } == .noKeyAvailable(capacity: 1, inUse: 1))
            host.kill(.kill)
        }
    }

    /// Asks for the end, and gets no answer.
    static func fails(_ host: PrivateHost) -> Bool {
        do {
            _ = try host.stop("web1")
            return false
        } catch {
            return true
        }
    }

    /// Kills tdxd where the release begins, and waits until the holder has met the page, alone.
    static func killUnheard(_ host: PrivateHost, _ holder: Int32) -> Bool {
        guard eventually({ DeathAtEachPhaseTests.isPaused(holder) }) else { return false }
        host.kill(.kill)
        Glibc.kill(holder, SIGCONT)
        return eventually { host.log.contains("a page could not be taken from a TD") }
    }
}

/// What is met when the VM is destroyed, behind every punch.
@Suite(.serialized) struct ClosingFailureTests {
    @Test func `a control page that the module does not give up leaves the memory free and the key id in quarantine`()
        throws
    {
        // Without firmware the TD owns no other page.
        let host = try PrivateHost(settings: "emulated_key_ids = 1\nemulated_failing_removal = 1")
        _ = try host.create("web1")
        try #require(try host.makeResident(8 << 20) == 8 << 20)
        let certificate = try host.stop("web1")
        #expect(
            !certificate.complete && certificate.failure?.hasPrefix("close: emulated KVM_BUG_ON") == true,
            "\(certificate)")
        #expect(certificate.tdxStatus == QuarantineTests.status && certificate.releasedBytes >= 8 << 20)
        #expect(certificate.proofs.first { $0.name == "holder_residency" }?.holds == true)
        #expect(certificate.proofs.first { $0.name == "emulated_no_page_owned" }?.holds == false)
        #expect(refusal { _ = try host.create("web2") } == .noKeyAvailable(capacity: 1, inUse: 1))
        #expect(try host.show("web1").reason?.hasPrefix("quarantined: close: ") == true)
    }

    @Test func `what a holder met alone when it closed is known to the next tdxd`() throws {
        let host = try PrivateHost(
            settings: "emulated_key_ids = 1\nemulated_failing_removal = 1\nemulated_pause_at = close")
        let domain = try host.create("web1")
        let answers = inParallel(2) { index -> Bool in
            index == 0 ? QuarantineTests.fails(host) : QuarantineTests.killUnheard(host, domain.holderPID)
        }
        #expect(answers == [true, true], "\(host.log)")
        #expect(eventually { host.holders.isEmpty })
        try host.start()
        #expect(
            eventually { (try? host.show("web1").reason?.hasPrefix("quarantined: close: ")) == true }, "\(host.log)")
        let certificate = try JSONValue(host.tdxctl("certificate", "show", "web1", "--json=short"))
        #expect(certificate["tdx_status"].text == QuarantineTests.status && certificate["complete"] == .bool(false))
        let phases = certificate["phases"].elements.compactMap { $0["name"].text }
        #expect(phases.prefix(4) == ["quiesce", "terminate", "release", "close"], "\(phases)")
        #expect(refusal { _ = try host.create("web2") } == .noKeyAvailable(capacity: 1, inUse: 1))
    }
}
