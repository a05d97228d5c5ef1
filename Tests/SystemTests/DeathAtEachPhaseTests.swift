import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// tdxd, a holder or both are killed at each phase of a TD's end. The holder stops itself where the phase begins, so that
/// nothing is up to chance. The end is always finished, and what its certificate says is so.
@Suite(.serialized) struct DeathAtEachPhaseTests {
    enum Phase: String, CaseIterable, Sendable {
        case quiesce, terminate, release, close

        /// The TD was terminated, and tdxd had been told.
        var isHalted: Bool { self == .release || self == .close }
    }

    static let size: UInt64 = 8 << 20

    /// A host whose TD web1 is being stopped, and whose holder has stopped itself at that phase.
    private static func withHolderPaused(
        at phase: Phase, policy: StopPolicy? = nil,
        _ body: @escaping @Sendable (PrivateHost, TrustDomain) throws -> Void
    ) throws -> (host: PrivateHost, domain: TrustDomain, answer: TeardownCertificate?) {
        let host = try PrivateHost(settings: "emulated_key_ids = 1\nemulated_pause_at = \(phase.rawValue)")
        let domain = try host.create("web1")
        try #require(try host.makeResident(size) == size)
        let answers = inParallel(2) { index -> TeardownCertificate? in
            if index == 0 { return try? host.stop(.init(name: "web1", policy: policy)) }
            #expect(eventually { isPaused(domain.holderPID) }, "\(host.log)")
            do { try body(host, domain) } catch { Issue.record("\(error)") }
            return nil
        }
        return (host, domain, answers.compactMap { $0 }.first)
    }

    /// State T in /proc/PID/stat: stopped by a signal.
    static func isPaused(_ pid: Int32) -> Bool {
        guard let text = try? TextFile.read("/proc/\(pid)/stat", limit: 4096), let end = text.lastIndex(of: ")") else {
            return false
        }
        return text[end...].dropFirst(2).first == "T"
    }

    /// The one certificate that is on disk.
    private static func written(_ host: PrivateHost) throws -> JSONValue {
        let name = try #require(host.certificateFiles.first)
        let text = try TextFile.read(host.state + "/certificates/" + name)
        return try JSONValue(Finished(status: 0, output: text, errors: ""))
    }

    private static func proof(_ certificate: JSONValue, _ name: String) -> JSONValue? {
        certificate["proofs"].elements.first { $0["name"].text == name }
    }

    /// Nothing of the TD is left, and its key id, the only one, serves the next.
    private static func expectAllIsBack(_ host: PrivateHost, _ domain: TrustDomain) throws {
        #expect(eventually { host.leavesNothing() && host.certificateFiles.count == 1 }, "\(host.log)")
        #expect(try host.create("web2").keyID == domain.keyID, "\(host.log)")
    }

    // MARK: tdxd dies

    @Test(arguments: Phase.allCases, [true, false])
    func `a TD whose tdxd is killed at a phase of its end is ended by the next`(
        phase: Phase, goesOnBefore: Bool
    ) throws {
        let (host, domain, answer) = try Self.withHolderPaused(at: phase) { host, domain in
            host.kill(.kill)
            guard goesOnBefore else { return }
            kill(domain.holderPID, SIGCONT)
            // What it does alone: it waits to be asked for the memory, or it ends.
            if phase.isHalted { #expect(eventually { host.holders.isEmpty }, "\(host.log)") }
        }
        #expect(answer == nil)
        try host.start()
        if !goesOnBefore {
            #expect(host.holders == [domain.holderPID])
            kill(domain.holderPID, SIGCONT)
            // At release the next one has it stop once more, when it is asked for the memory.
        }
        try Self.expectAllIsBack(host, domain)
        let certificate = try Self.written(host)
        #expect(certificate["holder_died"] == .bool(false), "\(certificate)\n\(host.log)")
        #expect(certificate["path"].text == "terminate-first" && certificate["failure"] == .null)
        #expect(certificate["policy"].text == "auto" && certificate["pending"] == .null)
        let phases = certificate["phases"].elements.compactMap { $0["name"].text }
        #expect(phases.prefix(2) == ["quiesce", "terminate"] && phases.contains("exit"), "\(phases)")
        if !phase.isHalted {
            // The holder told the next tdxd all of it.
            #expect(phases.prefix(4) == ["quiesce", "terminate", "release", "close"], "\(phases)")
            #expect(certificate["released_bytes"].number.map { $0 >= Double(Self.size) } == true)
            #expect(certificate["complete"] == .bool(true), "\(certificate)")
        } else {
            // Nobody had duplicates: it was not measured, and the certificate does not say that it was.
            let evidence = Self.proof(certificate, "residency_zero")?["evidence"].text
            #expect(evidence?.hasPrefix("not measured") == true, "\(certificate)")
            #expect(certificate["complete"] == Self.proof(certificate, "residency_zero")?["holds"])
        }
    }

    @Test func `a TD whose tdxd is killed while it proves the end is proven by the next, from all that was known`()
        throws
    {
        let host = try PrivateHost(settings: "emulated_key_ids = 1\n[deadlines]\nprove = 10min")
        let domain = try host.create("web1")
        try #require(try host.makeResident(Self.size) == Self.size)
        // As long as this test has one of its files, the end is not proven.
        let file = try Self.openBacking(host)
        let results = inParallel(2) { index -> Bool in
            if index == 0 { return (try? host.stop("web1")) == nil }
            let proves = eventually { Self.knowsAll(host, domain) }
            host.kill(.kill)
            return proves
        }
        #expect(results == [true, true])
        #expect(host.certificateFiles.isEmpty)
        close(file)
        try host.start()
        try Self.expectAllIsBack(host, domain)
        let certificate = try Self.written(host)
        #expect(certificate["holder_died"] == .bool(false) && certificate["path"].text == "terminate-first")
        #expect(certificate["complete"] == .bool(true), "\(certificate)")
        let phases = certificate["phases"].elements.compactMap { $0["name"].text }
        #expect(
            phases == ["quiesce", "terminate", "release", "close", "exit", "close-duplicates", "prove"], "\(phases)")
        #expect(certificate["released_bytes"].number.map { $0 >= Double(Self.size) } == true)
        #expect(
            Self.proof(certificate, "residency_zero")?["evidence"].text?.contains("by the former tdxd") == true)
        #expect(Self.proof(certificate, "emulated_key_free")?["holds"] == .bool(true))
    }

    @Test func `a certificate that was written when tdxd was killed stays as it is`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1\n[deadlines]\nprove = 10min")
        let domain = try host.create("web1")
        let file = try Self.openBacking(host)
        let directory = host.runtime + "/holders/\(domain.id)"
        let record = inParallel(2) { index -> String? in
            if index == 0 { return (try? host.stop("web1"))?.complete == true ? "complete" : nil }
            _ = eventually { Self.knowsAll(host, domain) }
            // What lies there until the certificate is written and the TD forgotten.
            let text = try? TextFile.read(directory + "/domain.json")
            close(file)
            return text
        }
        #expect(record[0] == "complete")
        let certificate = try #require(host.certificateFiles.first)
        let before = try TextFile.read(host.state + "/certificates/" + certificate)
        host.kill(.kill)
        // As a tdxd leaves it that is killed between the certificate and the clearing up.
        #expect(mkdir(directory, 0o700) == 0)
        do {
            let file = try openForAppending(directory + "/domain.json")
            let bytes = Array(try #require(record[1]).utf8)
            #expect(write(file.rawValue, bytes, bytes.count) == bytes.count)
        }
        try host.start()
        #expect(eventually { host.leavesNothing() }, "\(host.log)")
        #expect(try host.list().isEmpty)
        #expect(host.certificateFiles == [certificate])
        #expect(try TextFile.read(host.state + "/certificates/" + certificate) == before)
        #expect(try host.create("web1").keyID == domain.keyID)
    }

    /// tdxd has only the proofs before it, and the next one could know as much.
    private static func knowsAll(_ host: PrivateHost, _ domain: TrustDomain) -> Bool {
        let record = try? TextFile.read("\(host.runtime)/holders/\(domain.id)/domain.json")
        return record?.contains("close-duplicates") == true
    }

    /// A descriptor of one of the TD's backing files.
    private static func openBacking(_ host: PrivateHost) throws -> Int32 {
        for name in try TextFile.list("/proc/\(host.pid)/fd") {
            let path = "/proc/\(host.pid)/fd/\(name)"
            guard let target = try? TextFile.linkTarget(path), target.contains("memfd:tdxd") else { continue }
            let file = open(path, O_RDWR | O_CLOEXEC)
            if file >= 0 { return file }
        }
        throw PrivateHost.NotServing(description: "tdxd has no duplicate of a backing file")
    }

    // MARK: The holder dies

    @Test(arguments: Phase.allCases)
    func `a TD whose holder is killed at a phase of its end is given back by tdxd`(phase: Phase) throws {
        let (host, domain, answer) = try Self.withHolderPaused(at: phase) { _, domain in
            kill(domain.holderPID, SIGKILL)
        }
        let certificate = try #require(answer, "\(host.log)")
        #expect(certificate.holderDied && certificate.complete, "\(certificate)")
        let phases = certificate.phases.map(\.name.rawValue)
        #expect(phases.contains("holder-lost") && phases.contains("close-duplicates"))
        // What was not heard of is not said: it may or may not have been done.
        #expect(certificate.path == (phase.isHalted ? .terminateFirst : .dynamicRemoval))
        #expect(phases.starts(with: phase.isHalted ? ["quiesce", "terminate", "holder-lost"] : ["holder-lost"]))
        let reaped = certificate.phases.first { $0.name == .reap }?.bytes
        #expect(phase == .close || reaped.map { $0 >= Self.size } == true, "\(certificate)")
        try Self.expectAllIsBack(host, domain)
    }

    // MARK: Both die

    @Test(arguments: Phase.allCases)
    func `when both are killed at a phase of an end the next tdxd says what is known of it`(phase: Phase) throws {
        let (host, domain, answer) = try Self.withHolderPaused(at: phase) { host, domain in
            host.kill(.kill)
            kill(domain.holderPID, SIGKILL)
            _ = eventually { host.holders.isEmpty }
        }
        #expect(answer == nil)
        try host.start()
        try Self.expectAllIsBack(host, domain)
        let certificate = try Self.written(host)
        #expect(certificate["holder_died"] == .bool(true))
        #expect(certificate["path"].text == (phase.isHalted ? "terminate-first" : "dynamic-removal"))
        let phases = certificate["phases"].elements.compactMap { $0["name"].text }
        #expect(phases == (phase.isHalted ? ["quiesce", "terminate"] : []) + ["death", "prove"], "\(phases)")
        #expect(certificate["phases"].elements.contains { $0["detail"].text?.contains("by itself") == true })
        #expect(Self.proof(certificate, "residency_zero")?["evidence"].text?.contains("not measured") == true)
        #expect(certificate["complete"] == Self.proof(certificate, "residency_zero")?["holds"])
    }

    @Test func `memory that comes back at a pace when its holder is killed is given back by tdxd`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        try #require(try host.makeResident(Self.size) == Self.size)
        _ = try host.stop(.init(name: "web1", bytesPerSecond: 1 << 20, chunkBytes: 2 << 20, wait: .stopped))
        kill(domain.holderPID, SIGKILL)
        #expect(eventually { host.leavesNothing() && host.certificateFiles.count == 1 }, "\(host.log)")
        #expect(
            eventually {
                guard let certificate = try? Self.written(host) else { return false }
                return certificate["complete"] == .bool(true) && certificate["holder_died"] == .bool(true)
                    && certificate["path"].text == "terminate-first"
            }, "\(host.log)")
    }
}
