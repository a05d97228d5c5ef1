import ControlInterface
import DomainEnd
import FoundationEssentials
import HostVMs
import LinuxSystem
import MemoryUnits
import Synchronization
import Testing

@testable import TDXDaemon

@Suite struct ReaperTests {
    /// Two memfds of 3 and 2 MiB with all pages present, and tdxd's duplicates of them.
    static func backing() throws -> (owners: [MemoryFile], Backing) {
        let owners = [
            try MemoryFile(name: "reaper-a", size: .mebibytes(3)),
            try MemoryFile(name: "reaper-b", size: .mebibytes(2)),
        ]
        for owner in owners { try owner.allocate(offset: .zero, length: owner.size) }
        let files = try owners.enumerated().map { index, owner in
            Backing.File(
                side: index == 0 ? .private : .shared, size: owner.size, identity: owner.identity,
                descriptor: SharedDescriptor(try owner.duplicateDescriptor()))
        }
        return (owners, Backing(files: files))
    }

    @Test(arguments: [1, 2, 8])
    func `every byte of every file is given back, in chunks`(lanes: Int) throws {
        let (owners, backing) = try Self.backing()
        let last = Mutex(ByteCount.zero)
        let outcome = Reaper.release(backing, chunk: .mebibytes(1), lanes: lanes) { done, total in
            #expect(total == .mebibytes(5))
            last.withLock { $0 = max($0, done) }
        }
        #expect(outcome.releasedBytes == .mebibytes(5))
        #expect(outcome.calls == 5)
        #expect(outcome.failure == nil)
        #expect(last.withLock { $0 } == .mebibytes(5))
        for owner in owners { #expect(try owner.residentBytes() == .zero) }
    }

    @Test func `residency is told by side`() throws {
        let (owners, backing) = try Self.backing()
        let resident = try backing.residentBytes()
        #expect(resident.private == .mebibytes(3))
        #expect(resident.shared == .mebibytes(2))
        try owners[0].punchHole(offset: .zero, length: .mebibytes(1))
        #expect(try backing.residentBytes().private == .mebibytes(2))
    }

    @Test func `what is empty costs no call`() throws {
        let (owners, backing) = try Self.backing()
        for owner in owners { try owner.punchHole(offset: .zero, length: owner.size) }
        #expect(Reaper.release(backing).calls == 0)
    }

    @Test func `closed duplicates are a failure, not a success`() throws {
        let (owners, backing) = try Self.backing()
        #expect(backing.close())
        #expect(Reaper.release(backing).failure != nil)
        #expect(throws: LinuxError.self) { _ = try backing.residentBytes() }
        #expect(try owners[0].residentBytes() == .mebibytes(3))
    }
}

@Suite struct VMEventLogTests {
    static func event(_ kind: String, thread: Int32) throws -> VMEvent {
        let text = "change@/devices/virtual/misc/kvm\0EVENT=\(kind)\0PID=\(thread)\0CREATED=1\0COUNT=1\0"
        let event = try #require(KernelEvent(parsing: Array(text.utf8)))
        return try #require(VMEvent(event))
    }

    @Test func `a destruction counts for its creators, from the given moment on`() throws {
        let log = VMEventLog()
        let moment = MonotonicInstant(nanoseconds: 1_000)
        log.note(try Self.event("create", thread: 71), process: 70)
        #expect(log.creators(in: 70) == [71])
        #expect(log.creators(in: 71) == [])
        log.note(try Self.event("destroy", thread: 71), process: nil, at: MonotonicInstant(nanoseconds: 999))
        #expect(log.destruction(ofVMsBy: [71], since: moment) == nil)
        log.note(try Self.event("destroy", thread: 72), process: nil, at: MonotonicInstant(nanoseconds: 2_000))
        #expect(log.destruction(ofVMsBy: [71], since: moment) == nil)
        log.note(try Self.event("destroy", thread: 71), process: nil, at: MonotonicInstant(nanoseconds: 2_000))
        #expect(log.destruction(ofVMsBy: [71], since: moment) == MonotonicInstant(nanoseconds: 2_000))
        log.forget(process: 70)
        #expect(log.creators(in: 70) == [])
        #expect(log.destruction(ofVMsBy: [71], since: moment) == nil)
    }

    @Test func `the log is bounded`() throws {
        let log = VMEventLog()
        for number in 1...Int32(VMEventLog.capacity + 10) {
            log.note(try Self.event("create", thread: number), process: 1)
        }
        #expect(log.creators(in: 1).count == VMEventLog.capacity)
        #expect(log.creators(in: 1).first == 11)
    }

    @Test func `lost events are told from the given moment on`() {
        let log = VMEventLog()
        #expect(!log.lostEvents(since: MonotonicInstant(nanoseconds: 0)))
        log.noteLoss(at: MonotonicInstant(nanoseconds: 5))
        #expect(log.lostEvents(since: MonotonicInstant(nanoseconds: 5)))
        #expect(!log.lostEvents(since: MonotonicInstant(nanoseconds: 6)))
    }

    @Test func `a thread's process is read from its status`() {
        #expect(VMEventLog.threadGroup(in: "Name:\tx\nTgid:\t4711\nNgid:\t0\n") == 4711)
        #expect(VMEventLog.threadGroup(in: "Name:\tx\n") == nil)
        #expect(VMEventLog.process(of: CurrentProcess.threadID) == CurrentProcess.pid)
        #expect(VMEventLog.threads(of: CurrentProcess.pid).contains(CurrentProcess.threadID))
    }
}

@Suite struct TeardownProofTests {
    /// An end that went well, on a backend with a VM.
    static let good = TeardownEvidence(
        holderExit: "exited with status 0", residentBytes: 0, residencyUnknown: nil, duplicates: 2,
        duplicatesClosed: true, filesSought: 2, holders: [], processesSeen: 100, processesUnseen: 0, scanFailure: nil,
        machine: .destroyed(millisecondsAfterClose: 0.4))

    static func failing(_ change: (inout TeardownEvidence) -> Void) -> [String] {
        var evidence = good
        change(&evidence)
        return TeardownProofs.derive(from: evidence).filter { !$0.holds }.map(\.name)
    }

    @Test func `a good end is proven throughout`() {
        #expect(Self.failing { _ in } == [])
        #expect(TeardownProofs.derive(from: Self.good).count == 5)
    }

    @Test func `without duplicates the holder's own count holds as far as tdxd could see, and nothing else does`() {
        func residency(_ change: (inout TeardownEvidence) -> Void) -> TeardownProof? {
            var evidence = Self.good
            evidence.residentBytes = nil
            evidence.duplicates = 0
            evidence.othersAreHidden = true
            change(&evidence)
            return TeardownProofs.derive(from: evidence).first { $0.name == "residency_zero" }
        }
        #expect(residency { _ in }?.holds == false)
        let counted = residency { $0.holderCountedNothing = true }
        #expect(counted?.holds == true && counted?.evidence.contains("the holder counted 0 bytes") == true)
        #expect(counted?.unseen?.contains("hidepid") == true)
        // Who holds the file may have filled it again.
        #expect(
            residency {
                $0.holderCountedNothing = true; $0.holders = ["pid 7"]
            }?.holds == false)
        #expect(
            residency {
                $0.holderCountedNothing = true; $0.scanFailure = "EACCES"
            }?.holds == false)
        #expect(
            residency {
                $0.holderCountedNothing = true; $0.filesSought = 0
            }?.holds == false)
        // Where every process could be seen, the count is not needed.
        #expect(residency { $0.othersAreHidden = false }?.holds == true)
    }

    @Test func `each thing that is left fails its own proof`() {
        #expect(Self.failing { $0.residentBytes = 4096 } == ["residency_zero"])
        #expect(Self.failing { $0.holderExit = nil } == ["holder_gone"])
        #expect(Self.failing { $0.duplicatesClosed = false } == ["duplicates_closed"])
        #expect(Self.failing { $0.holders = ["pid 7, descriptor 3"] } == ["no_other_holder"])
        #expect(Self.failing { $0.scanFailure = "EACCES" } == ["no_other_holder"])
        #expect(Self.failing { $0.filesSought = 0 } == ["no_other_holder"])
        #expect(Self.failing { $0.machine = .notDestroyed(creators: [7]) } == ["vm_destroyed"])
        #expect(Self.failing { $0.machine = .listedInDebugFS("/sys/kernel/debug/kvm/1-2") } == ["vm_destroyed"])
    }

    @Test func `processes that cannot be seen are said`() throws {
        var evidence = Self.good
        evidence.processesUnseen = 12
        let proofs = TeardownProofs.derive(from: evidence)
        let proof = try #require(proofs.first { $0.name == TeardownProofs.noOtherHolder })
        #expect(proof.holds && proof.unseen?.contains("12 processes") == true)
    }

    /// An answer of a holder that names kinds.
    static func answer(_ failures: [EndFailure], proofs: [TeardownProof] = []) -> HolderInterface.Stop.Reply {
        HolderInterface.Stop.Reply(
            phases: [TeardownPhase(name: .release, milliseconds: 1)], proofs: proofs, path: .dynamicRemoval,
            releasedBytes: 0, failures: failures)
    }

    static let kinds = EndFailureKind.known + [EndFailureKind(rawValue: "of_a_newer_holder")]

    @Test(arguments: kinds, kinds)
    func `of each pair of failures both are kept, and either is enough for a quarantine`(
        first: EndFailureKind, second: EndFailureKind
    ) throws {
        let failures = [EndFailure(first, "first"), EndFailure(second, status: "0xc000030000000001", "second")]
        var ending = EndReport(record: Sample.record("web1"), holderDied: false)
        ending.take(Self.answer(failures))
        // What a Reclaim answers need not repeat what the Stop did.
        ending.take(Self.answer([failures[1]]))
        #expect(Set(ending.failures) == Set(failures))
        #expect((ending.quarantine != nil) == failures.contains { $0.kind.isForGood })
        #expect(ending.kept.contains(.memory) == failures.contains { $0.kind.keepsMemory })
        // The next tdxd knows the same.
        var record = ending.record
        record.soFar = ending.soFar
        let next = EndReport(resuming: try DomainRecord(decoding: record.encoded()))
        #expect(next.failures == ending.failures && next.quarantine == ending.quarantine)
        // So does the certificate.
        let certificate = ending.certificate([TeardownProof(name: "residency_zero", holds: true, evidence: "")])
        #expect(certificate.failures == ending.failures && !certificate.complete)
        #expect(certificate.failure?.contains("first") == true && certificate.failure?.contains("second") == true)
    }

    @Test func `only what is known to be harmless quarantines nothing`() {
        let harmless: Set<EndFailureKind> = [
            .vcpuStuck, .terminateBusy, .notBegun, .reapRefused, .certificateUnwritten,
        ]
        for kind in Self.kinds {
            #expect(kind.keepsKey == !harmless.contains(kind), "\(kind)")
            #expect(kind.keepsMemory == (!harmless.contains(kind) && kind != .closeFailed), "\(kind)")
        }
    }

    @Test func `a text decides nothing`() {
        var ending = EndReport(record: Sample.record("web1"), holderDied: false)
        ending.take(Self.answer([EndFailure(.terminateBusy, "release: 0x0, 2 MiB: EIO")]))
        #expect(ending.quarantine == nil)
        ending.take(Self.answer([EndFailure(.punchRefused, "vCPU 0 did not leave KVM_RUN within 5000 ms")]))
        #expect(ending.quarantine != nil && ending.kept.contains(.memory))
    }

    @Test func `what an older holder or tdxd did not name keeps everything`() throws {
        func reply(_ text: String) throws -> HolderInterface.Stop.Reply {
            try JSONDecoder().decode(HolderInterface.Stop.Reply.self, from: Data(text.utf8))
        }
        var ending = EndReport(record: Sample.record("web1"), holderDied: false)
        ending.take(try reply(#"{"phases":[],"proofs":[],"path":"terminate-first","released_bytes":1}"#))
        #expect(ending.failures.isEmpty && ending.quarantine == nil && ending.path == .terminateFirst)
        for text in ["release: EIO", "not terminated, and ended page by page: EBUSY", "whatever"] {
            var ending = EndReport(record: Sample.record("web1"), holderDied: false)
            ending.take(try reply(#"{"phases":[],"proofs":[],"failure":"\#(text)","tdx_status":"0x1"}"#))
            #expect(ending.failures == [EndFailure(.unspecified, status: "0x1", text)])
            #expect(ending.quarantine == text && ending.kept.contains(.memory))
        }
        let open = #"{"phases":[],"proofs":[{"name":"emulated_key_free","holds":false,"evidence":"BUSY"}]}"#
        ending.take(try reply(open))
        #expect(ending.quarantine == "emulated_key_free: BUSY")
        // What the holder could not count others have counted since.
        var counted = EndReport(record: Sample.record("web1"), holderDied: false)
        counted.take(
            try reply(#"{"phases":[],"proofs":[{"name":"holder_residency","holds":false,"evidence":"1"}]}"#))
        #expect(counted.quarantine == nil)
        // A record of a former tdxd.
        var record = Sample.record("web1")
        record.quarantine = "release: EIO"
        #expect(EndReport(resuming: record).kept.contains(.memory))
    }

    @Test func `a certificate of an older tdxd is read`() throws {
        let text = """
            {"name":"web1","id":"1","backend":"memfd","emulated":true,"policy":"auto","path":"dynamic-removal",
            "holder_died":false,"started_at":"","milliseconds":1,"memory_bytes":1,"released_bytes":1,
            "phases":[{"name":"of_another_time","milliseconds":1,"bytes":0,"calls":0}],"proofs":[],"complete":false,
            "failure":"release: EIO"}
            """
        let certificate = try JSONDecoder().decode(TeardownCertificate.self, from: Data(text.utf8))
        #expect(certificate.failures == nil && certificate.failure == "release: EIO" && !certificate.complete)
        #expect(certificate.phases[0].name.rawValue == "of_another_time")
    }

    @Test func `debugfs proves nothing of a VM whose creator nobody knows`() {
        func look(_ names: [String], _ creators: Set<Int32>) -> TeardownEvidence.Machine? {
            .inDebugFS(names, at: "/d", creators: creators)
        }
        #expect(look(["4711-12", "stats"], [4711]) == .listedInDebugFS("/d/4711-12"))
        #expect(look(["471-12", "47110-3"], [4711]) == .absentFromDebugFS("/d"))
        #expect(look(["4712-12"], [4711, 4712]) == .listedInDebugFS("/d/4712-12"))
        #expect(look(["4711-12"], []) == nil)
        #expect(look([], []) == nil)
    }

    @Test func `processes that are hidden are said to be, and nothing is concluded from not seeing them`() {
        var evidence = Self.good
        evidence.residentBytes = nil
        evidence.residencyUnknown = "cachestat: ENOSYS"
        func proof(_ name: String) -> TeardownProof? {
            TeardownProofs.derive(from: evidence).first { $0.name == name }
        }
        #expect(proof(TeardownProofs.residencyZero)?.holds == true)
        evidence.othersAreHidden = true
        #expect(proof(TeardownProofs.residencyZero)?.holds == false)
        #expect(proof(TeardownProofs.noOtherHolder)?.unseen?.contains("hidden from tdxd") == true)
    }

    @Test func `without duplicates residency follows only from a look at every process`() {
        func change(_ evidence: inout TeardownEvidence) {
            evidence.residentBytes = nil
            evidence.duplicates = 0
        }
        #expect(Self.failing(change) == [])
        #expect(
            Self.failing {
                change(&$0)
                $0.processesUnseen = 1
            } == ["residency_zero"])
        #expect(
            Self.failing {
                change(&$0)
                $0.processesUnfinished = 1
            } == ["residency_zero"])
        #expect(
            Self.failing {
                change(&$0)
                $0.filesSought = 0
            } == ["residency_zero", "no_other_holder"])
    }

    @Test func `an end is over when only a residency is open that nobody can measure`() {
        var evidence = Self.good
        evidence.residentBytes = nil
        evidence.processesUnseen = 1
        let unmeasured = TeardownProofs.derive(from: evidence)
        #expect(unmeasured.count { !$0.holds } == 1)
        #expect(TeardownProofs.isOver(unmeasured, residencyIsKnown: false))
        #expect(!TeardownProofs.isOver(unmeasured, residencyIsKnown: true))
        evidence.holders = ["pid 7"]
        #expect(!TeardownProofs.isOver(TeardownProofs.derive(from: evidence), residencyIsKnown: false))
    }

    @Test func `an end that KVM cannot announce follows from nobody holding its files`() {
        #expect(Self.failing { $0.machine = .unobservable } == [])
        #expect(
            Self.failing {
                $0.machine = .unobservable
                $0.holders = ["pid 7"]
            } == ["no_other_holder", "vm_destroyed"])
    }

    @Test func `an end that came while no tdxd listened is not waited for, and follows from nobody holding its files`()
    {
        typealias Machine = TeardownEvidence.Machine
        #expect(Machine.unannounced(creators: [7], lostEvents: false, wasKept: false) == .perhapsEndedUnheard)
        #expect(
            Machine.unannounced(creators: [8, 7], lostEvents: false, wasKept: true) == .notDestroyed(creators: [7, 8]))
        #expect(Machine.unannounced(creators: [7], lostEvents: true, wasKept: true) == .unobservable)
        #expect(Machine.unannounced(creators: [], lostEvents: false, wasKept: true) == .unobservable)
        #expect(Self.failing { $0.machine = .perhapsEndedUnheard } == [])
        #expect(
            Self.failing {
                $0.machine = .perhapsEndedUnheard
                $0.holders = ["pid 7"]
            } == ["no_other_holder", "vm_destroyed"])
    }
}
