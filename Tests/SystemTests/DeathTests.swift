import ControlInterface
import Glibc
import LinuxSystem
import Synchronization
import Testing

/// Processes die at any moment: no TD is lost that could be kept, nothing stays behind, and what is said is so.
@Suite(.serialized) struct DeathTests {
    static let backends = MainJobTests.backends

    @Test(arguments: backends)
    func `a killed holder fails its TD, which is reaped, certified and gives its key back`(backend: String) throws {
        let host = try PrivateHost(backend: backend, settings: "emulated_key_ids = 1")
        let domain = try host.create("web1")
        _ = try host.convert("web1", gpa: 0, bytes: 1 << 20, to: .shared)
        #expect(host.backingDescriptors > 0)
        kill(domain.holderPID, SIGKILL)
        let isFailed = try eventually { try host.show("web1").state == .failed }
        #expect(isFailed, "\(host.log)")
        #expect(eventually { host.certificateFiles.count == 1 }, "\(host.log)")
        #expect(eventually { host.leavesNothing() }, "\(host.log)")
        let shown = try host.show("web1")
        #expect(shown.reason?.contains("SIGKILL") == true)
        #expect(shown.residentBytes == 0)
        // The one key id there is serves the next TD.
        #expect(try host.create("web2").keyID == domain.keyID)
        let certificate = try host.stop("web1")
        #expect(certificate.holderDied)
        #expect(certificate.complete, "\(certificate)")
        #expect(certificate.phases.contains { $0.name == .closeDuplicates })
        #expect(try host.list().map(\.name) == ["web2"])
    }

    @Test func `the name of a failed TD can be used again`() throws {
        let host = try PrivateHost()
        let first = try host.create("web1")
        kill(first.holderPID, SIGKILL)
        #expect(try eventually { try host.show("web1").state == .failed })
        #expect(eventually { host.certificateFiles.count == 1 })
        #expect(eventually { host.leavesNothing() })
        let second = try host.create("web1")
        #expect(second.id != first.id)
        #expect(try host.list().map(\.id) == [second.id])
    }

    @Test func `a holder that is stuck does not keep others waiting, and is shown as last known`() throws {
        let host = try PrivateHost()
        let stuck = try host.create("stuck")
        _ = try host.create("well")
        kill(stuck.holderPID, SIGSTOP)
        defer { kill(stuck.holderPID, SIGCONT) }
        let domains = try host.list()
        #expect(domains.map(\.name) == ["stuck", "well"])
        #expect(domains[0].reason?.contains("does not answer") == true)
        #expect(domains[0].privateBytes == stuck.privateBytes)
        #expect(domains[1].reason == nil)
        #expect(try host.convert("well", gpa: 0, bytes: 1 << 20, to: .shared).changedBytes == 1 << 20)
        kill(stuck.holderPID, SIGCONT)
        #expect(try eventually { try host.show("stuck").reason == nil })
    }

    @Test func `a conversion that its holder does not answer keeps nobody waiting, and fails when the holder dies`()
        throws
    {
        let host = try PrivateHost()
        let stuck = try host.create("stuck")
        _ = try host.create("well")
        // The second one finds a connection, so that the event loop waits for its answer.
        _ = try host.convert("stuck", gpa: 0, bytes: 1 << 20, to: .shared)
        kill(stuck.holderPID, SIGSTOP)
        defer { kill(stuck.holderPID, SIGCONT) }
        let outcome = Mutex<String?>(nil)
        let client = try SystemThread(name: "client") {
            do {
                _ = try host.convert("stuck", gpa: 0, bytes: 1 << 20, to: .private)
                outcome.withLock { $0 = "converted" }
            } catch { outcome.withLock { $0 = "\(error)" } }
        }
        for side in [MemorySide.shared, .private, .shared] {
            #expect(try host.convert("well", gpa: 0, bytes: 1 << 20, to: side).changedBytes == 1 << 20)
        }
        #expect(try host.list().count == 2)
        #expect(outcome.withLock { $0 } == nil)
        kill(stuck.holderPID, SIGKILL)
        client.join()
        #expect(outcome.withLock { $0 }?.contains("HolderFailed") == true, "\(outcome.withLock { $0 } ?? "no answer")")
    }

    @Test func `a holder that is stuck is killed when it does not stop, and its TD is reaped`() throws {
        let host = try PrivateHost(settings: "[deadlines]\nstop = 1s")
        let domain = try host.create("web1")
        kill(domain.holderPID, SIGSTOP)
        let certificate = try host.stop("web1")
        #expect(certificate.holderDied)
        #expect(certificate.complete, "\(certificate)")
        #expect(host.leavesNothing())
    }

    @Test(arguments: backends)
    func `TDs outlive a killed tdxd, and the next one has them`(backend: String) throws {
        let host = try PrivateHost(backend: backend, settings: "emulated_key_ids = 2")
        let domain = try host.create("web1")
        _ = try host.convert("web1", gpa: 0, bytes: 1 << 20, to: .shared)
        host.kill(.kill)
        #expect(host.holders == [domain.holderPID])
        try host.start()
        let adopted = try host.show("web1")
        #expect(adopted.id == domain.id)
        #expect(adopted.state == .runnable)
        #expect(adopted.mrtd == domain.mrtd)
        #expect(adopted.keyID == domain.keyID)
        #expect(adopted.sharedBytes == 1 << 20)
        #expect(try host.create("web2").keyID != domain.keyID)
        #expect(try host.convert("web1", gpa: 0, bytes: 1 << 20, to: .private).changedBytes == 1 << 20)
        let certificate = try host.stop("web1")
        #expect(certificate.complete, "\(certificate)\n\(host.log)")
        #expect(!certificate.holderDied)
    }

    @Test(arguments: backends)
    func `a holder that dies after tdxd was restarted is reaped all the same`(backend: String) throws {
        let host = try PrivateHost(backend: backend)
        let domain = try host.create("web1")
        host.kill(.kill)
        try host.start()
        kill(domain.holderPID, SIGKILL)
        #expect(try eventually { try host.show("web1").state == .failed })
        #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() })
        let certificate = try host.stop("web1")
        #expect(certificate.holderDied)
        #expect(certificate.complete, "\(certificate)")
    }

    @Test(arguments: backends)
    func `when both were killed the next tdxd says what the kernel took back`(backend: String) throws {
        let host = try PrivateHost(backend: backend, settings: "emulated_key_ids = 1")
        let domain = try host.create("web1")
        host.kill(.kill)
        kill(domain.holderPID, SIGKILL)
        #expect(eventually { host.holders.isEmpty })
        try host.start()
        #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() }, "\(host.log)")
        let certificate = try host.stop("web1")
        #expect(certificate.holderDied)
        #expect(certificate.phases.contains { $0.detail?.contains("by itself") == true })
        let residency = certificate.proofs.first { $0.name == "residency_zero" }
        #expect(residency?.evidence.contains("not measured") == true)
        // Nobody could measure; that it follows takes a look into every process, which not every host allows.
        #expect(certificate.complete == residency?.holds)
        #expect(try host.create("web2").keyID == domain.keyID)
    }

    @Test func `a TD that was half built when tdxd was killed leaves nothing`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        let killer = inParallel(2) { index -> Bool in
            if index == 0 {
                _ = try? host.create("web1", mebibytes: 256, firmware: Programs.hasFirmware ? Programs.firmware : nil)
                return true
            }
            let began = eventually { !host.holders.isEmpty }
            host.kill(.kill)
            return began
        }
        #expect(killer == [true, true])
        try host.start()
        // Whether it was half or just built then is up to chance; either way it is one thing or the other.
        #expect(
            try eventually {
                let domains = try host.list()
                return domains.isEmpty ? host.leavesNothing() : domains.allSatisfy { $0.state == .runnable }
            }, "\(host.log)")
        if try !host.list().isEmpty { #expect(try host.stop("web1").complete) }
        #expect(try host.create("web1").state == .runnable)
    }

    @Test func `what a child of a killed tdxd has for a moment longer does not keep the next one from starting`() throws
    {
        let host = try PrivateHost()
        host.kill(.kill)
        // A child has its parent's lock and listening socket until it becomes another program.
        let lock = open(host.runtime + "/tdxd.lock", O_RDWR | O_CLOEXEC)
        // Such a child may be there in truth: then it has the lock first.
        #expect(eventually { flock(lock, LOCK_EX | LOCK_NB) == 0 })
        let started = inParallel(2) { index -> Bool in
            if index == 0 {
                usleep(300_000)
                close(lock)
                return true
            }
            return (try? host.start()) != nil
        }
        #expect(started == [true, true], "\(host.log)")
    }

    @Test func `an end that a killed tdxd had begun is finished by the next`() throws {
        let host = try PrivateHost()
        let domain = try host.create("web1")
        kill(domain.holderPID, SIGSTOP)
        let results = inParallel(2) { index -> Bool in
            if index == 0 {
                _ = try? host.stop("web1")
                return true
            }
            let began = eventually { host.log.contains("stopping a TD") }
            host.kill(.kill)
            return began
        }
        #expect(results == [true, true])
        kill(domain.holderPID, SIGCONT)
        try host.start()
        #expect(
            eventually { host.leavesNothing() && host.certificateFiles.count == 1 },
            "\(host.holders) \(host.holderDirectories) \(host.certificateFiles) \(host.log)")
    }
}
