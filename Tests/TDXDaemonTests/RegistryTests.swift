import ControlInterface
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct RegistryTests {
    static let name = try! DomainName(validating: "web1")

    static func running() throws -> (Registry, DomainRecord) {
        var registry = Registry()
        let record = Sample.record("web1")
        try registry.reserve(record)
        let isRunning = registry.built(id: record.id, record: record, figures: Sample.figures(record))
        #expect(isRunning)
        return (registry, record)
    }

    @Test func `a name is taken from the moment of its reservation`() throws {
        var registry = Registry()
        try registry.reserve(Sample.record("web1", id: "1"))
        #expect(refusal { try registry.reserve(Sample.record("web1", id: "2")) } == .nameTaken(name: "web1"))
        #expect(registry.domains.count == 1)
        registry.forget(id: "1")
        try registry.reserve(Sample.record("web1", id: "3"))
    }

    @Test func `a TD that nobody knows is no such domain`() {
        var registry = Registry()
        #expect(refusal { _ = try registry.find(name: Self.name) } == .noSuchDomain(name: "web1"))
        #expect(refusal { _ = try registry.beginStop(name: Self.name) } == .noSuchDomain(name: "web1"))
        #expect(registry.holderExited(id: "x", reason: "killed") == .unknown)
    }

    @Test func `a proven stop forgets the TD`() throws {
        var (registry, record) = try Self.running()
        guard case .stop = try registry.beginStop(name: Self.name) else {
            Issue.record("a running TD is stopped through its holder")
            return
        }
        #expect(registry[record.id]?.state == .stopping)
        registry.ended(id: record.id, certificate: Sample.certificate(record), aftermath: .forget)
        #expect(registry.domains.isEmpty)
        registry.checkInvariants()
    }

    @Test func `a TD that is being built or stopped cannot be stopped`() throws {
        var registry = Registry()
        try registry.reserve(Sample.record("web1"))
        #expect(
            refusal { _ = try registry.beginStop(name: Self.name) }
                == .wrongState(name: "web1", state: "building", operation: "stop"))
        var (running, _) = try Self.running()
        _ = try running.beginStop(name: Self.name)
        #expect(
            refusal { _ = try running.beginStop(name: Self.name) }
                == .wrongState(name: "web1", state: "stopping", operation: "stop"))
    }

    @Test func `held memory waits for a reclaim, and nobody looks at it meanwhile`() throws {
        var (registry, record) = try Self.running()
        _ = try registry.beginStop(name: Self.name)
        registry.halted(id: record.id, certificate: Sample.certificate(record, holds: false), isHeld: true)
        #expect(registry[record.id]?.state == .draining)
        #expect(registry.takeDraining().isEmpty)
        #expect(refusal { try registry.checkName(Self.name, for: 1000) } == .nameTaken(name: "web1"))
        guard case .reclaim(let domain) = try registry.beginReclaim(name: Self.name) else {
            Issue.record("held memory is asked for from its holder")
            return
        }
        #expect(!domain.isHeld && domain.isEnding)
        guard case .hurry = try registry.beginReclaim(name: Self.name) else {
            Issue.record("somebody is at it")
            return
        }
        #expect(
            refusal { _ = try registry.beginStop(name: Self.name) }
                == .wrongState(name: "web1", state: "draining", operation: "stop"))
        registry.ended(id: record.id, certificate: Sample.certificate(record), aftermath: .forgetComplete)
        #expect(registry.domains.isEmpty)
    }

    /// What may happen to an end whose deadline passes, in every order.
    enum Moment: CaseIterable { case held, deadline, reclaim, died, ended }

    @Test func `a deadline that passes at any moment leaves held memory to somebody`() throws {
        func permutations(_ rest: [Moment]) -> [[Moment]] {
            guard !rest.isEmpty else { return [[]] }
            return rest.flatMap { first in permutations(rest.filter { $0 != first }).map { [first] + $0 } }
        }
        for order in permutations(Moment.allCases) {
            var (registry, record) = try Self.running()
            _ = try registry.beginStop(name: Self.name)
            let pending = Sample.certificate(record, holds: false)
            for moment in order {
                let before = registry[record.id]
                switch moment {
                // A worker says so once, and only while it is at it.
                case .held:
                    if before?.isEnding == true { registry.halted(id: record.id, certificate: pending, isHeld: true) }
                case .deadline: registry.deadlinePassed(id: record.id, certificate: pending)
                case .reclaim: _ = try? registry.beginReclaim(name: Self.name)
                case .died: _ = registry.holderExited(id: record.id, reason: "killed")
                case .ended:
                    if before?.isEnding == true {
                        registry.ended(id: record.id, certificate: pending, aftermath: .lookAgain)
                    }
                }
                guard let after = registry[record.id] else { continue }
                if moment == .deadline {
                    #expect(after.isHeld == before?.isHeld && after.isEnding == before?.isEnding, "\(order)")
                }
                // Somebody is at it, or it waits for a client, or the timer looks at it again.
                let isLookedAt = !after.isEnding && !after.isHeld && after.state == .draining
                #expect(after.isEnding || after.isHeld || isLookedAt, "\(order): \(after)")
            }
        }
    }

    @Test func `a stop of a TD whose memory is held asks for the memory`() throws {
        var (registry, record) = try Self.running()
        _ = try registry.beginStop(name: Self.name)
        registry.halted(id: record.id, certificate: Sample.certificate(record, holds: false), isHeld: true)
        guard case .reclaim = try registry.beginStop(name: Self.name) else {
            Issue.record("the memory is held")
            return
        }
    }

    @Test func `a holder that dies with held memory is reaped once`() throws {
        var (registry, record) = try Self.running()
        _ = try registry.beginStop(name: Self.name)
        registry.halted(id: record.id, certificate: Sample.certificate(record, holds: false), isHeld: true)
        guard case .reap = registry.holderExited(id: record.id, reason: "killed") else {
            Issue.record("nobody else is at it")
            return
        }
        #expect(registry.holderExited(id: record.id, reason: "killed") == .attended)
    }

    @Test func `an end that was answered early is remembered only if something is open`() throws {
        for holds in [true, false] {
            var (registry, record) = try Self.running()
            _ = try registry.beginStop(name: Self.name)
            registry.halted(id: record.id, certificate: Sample.certificate(record, holds: false), isHeld: false)
            registry.ended(
                id: record.id, certificate: Sample.certificate(record, holds: holds), aftermath: .forgetComplete)
            #expect(registry.domains.isEmpty == holds)
        }
    }

    @Test func `a quarantined TD keeps its name and is not looked at again`() throws {
        var (registry, record) = try Self.running()
        _ = try registry.beginStop(name: Self.name)
        registry.ended(
            id: record.id, certificate: Sample.certificate(record, holds: false), aftermath: .quarantine("KVM_BUG_ON"))
        #expect(registry[record.id]?.state == .draining)
        #expect(registry[record.id]?.reason == "quarantined: KVM_BUG_ON")
        #expect(registry.takeDraining().isEmpty)
        #expect(refusal { try registry.checkName(Self.name, for: 1000) } == .nameTaken(name: "web1"))
        // Whoever asks again gets the certificate again, and nothing is freed.
        guard case .known = try registry.beginStop(name: Self.name) else {
            Issue.record("there is nothing to stop any more")
            return
        }
        #expect(registry[record.id]?.isQuarantined == true)
    }

    @Test func `only held memory can be reclaimed`() throws {
        var (registry, _) = try Self.running()
        #expect(
            refusal { _ = try registry.beginReclaim(name: Self.name) }
                == .wrongState(name: "web1", state: "runnable", operation: "reclaim"))
    }

    @Test func `an unproven stop leaves the TD draining with what is open`() throws {
        var (registry, record) = try Self.running()
        _ = try registry.beginStop(name: Self.name)
        registry.ended(id: record.id, certificate: Sample.certificate(record, holds: false), aftermath: .lookAgain)
        #expect(registry[record.id]?.state == .draining)
        #expect(registry[record.id]?.reason?.contains("key_id_returned") == true)
        #expect(refusal { try registry.reserve(Sample.record("web1", id: "2")) } == .nameTaken(name: "web1"))
        guard case .proveAgain = try registry.beginStop(name: Self.name) else {
            Issue.record("a draining TD is looked at again")
            return
        }
        registry.ended(id: record.id, certificate: Sample.certificate(record), aftermath: .forget)
        #expect(registry.domains.isEmpty)
    }

    @Test func `a draining TD is given to one looker at a time`() throws {
        var (registry, record) = try Self.running()
        _ = try registry.beginStop(name: Self.name)
        registry.ended(id: record.id, certificate: Sample.certificate(record, holds: false), aftermath: .lookAgain)
        #expect(registry.takeDraining().count == 1)
        #expect(registry.takeDraining().isEmpty)
        #expect(throws: ControlError.self) { try registry.beginStop(name: Self.name) }
    }

    @Test func `a holder's death fails a running TD, which is reaped once`() throws {
        var (registry, record) = try Self.running()
        guard case .reap(let domain) = registry.holderExited(id: record.id, reason: "killed by SIGKILL") else {
            Issue.record("a dead holder of a running TD is reaped")
            return
        }
        #expect(domain.state == .failed)
        #expect(registry.holderExited(id: record.id, reason: "again") == .attended)
        #expect(throws: ControlError.self) { try registry.beginStop(name: Self.name) }
    }

    @Test func `a reaped TD stays listed as failed until it is stopped, which answers its certificate`() throws {
        var (registry, record) = try Self.running()
        _ = registry.holderExited(id: record.id, reason: "killed by SIGKILL")
        let certificate = Sample.certificate(record, died: true)
        registry.ended(id: record.id, certificate: certificate, aftermath: .remember)
        #expect(registry[record.id]?.state == .failed)
        #expect(registry[record.id]?.reason == "killed by SIGKILL")
        #expect(registry[record.id]?.lastKnown?.privateBytes == 0)
        #expect(try registry.beginStop(name: Self.name) == .ended(certificate))
        #expect(registry.domains.isEmpty)
    }

    @Test func `an end that can never be proven stays listed with what is open, and keeps its name`() throws {
        var (registry, record) = try Self.running()
        _ = registry.holderExited(id: record.id, reason: "killed by SIGKILL")
        let certificate = Sample.certificate(record, holds: false, died: true)
        registry.ended(id: record.id, certificate: certificate, aftermath: .remember)
        #expect(registry[record.id]?.reason == "killed by SIGKILL; not proven: key_id_returned")
        #expect(refusal { try registry.reserve(Sample.record("web1", id: "2")) } == .nameTaken(name: "web1"))
        // A client that is allowed to stop it takes note of it.
        #expect(try registry.beginStop(name: Self.name) == .ended(certificate))
        try registry.reserve(Sample.record("web1", id: "2"))
    }

    @Test func `a failed TD keeps its name from another owner, proven or not`() throws {
        for holds in [true, false] {
            var (registry, record) = try Self.running()
            _ = registry.holderExited(id: record.id, reason: "killed by SIGKILL")
            let certificate = Sample.certificate(record, holds: holds, died: true)
            registry.ended(id: record.id, certificate: certificate, aftermath: .remember)
            var other = Sample.record("web1", id: "2")
            other.ownerUID = record.ownerUID + 1
            #expect(refusal { try registry.reserve(other) } == .nameTaken(name: "web1"))
            #expect(refusal { try registry.checkName(Self.name, for: other.ownerUID) } == .nameTaken(name: "web1"))
            #expect(registry[record.id]?.certificate == certificate, "nothing was changed")
        }
    }

    @Test func `a TD whose holder died while it was built cannot be stopped until its creation has cleared it up`()
        throws
    {
        var registry = Registry()
        let record = Sample.record("web1")
        try registry.reserve(record)
        #expect(registry.holderExited(id: record.id, reason: "killed by SIGKILL") == .attended)
        let before = registry[record.id]
        #expect(
            refusal { _ = try registry.beginStop(name: Self.name) }
                == .wrongState(name: "web1", state: "failed, being cleared up", operation: "stop"))
        #expect(refusal { _ = try registry.beginReclaim(name: Self.name) } != nil)
        #expect(registry[record.id] == before)
    }

    @Test func `one owner's failures do not push out another's`() throws {
        var registry = Registry()
        for number in 0..<(Registry.rememberedFailures + 40) {
            var record = Sample.record("td\(number)")
            record.createdAt = "2026-03-01T12:00:00.\(1000 + number)Z"
            record.ownerUID = number == 0 ? 1 : 2
            try registry.reserve(record)
            _ = registry.built(id: record.id, record: record, figures: Sample.figures(record))
            _ = registry.holderExited(id: record.id, reason: "gone")
            registry.ended(id: record.id, certificate: Sample.certificate(record, died: true), aftermath: .remember)
        }
        #expect(registry.domains.count == Registry.rememberedFailures)
        #expect(registry["id-of-td0"] != nil && registry["id-of-td1"] == nil)
    }

    @Test func `a failed and reaped TD gives its name up to its owner`() throws {
        var (registry, record) = try Self.running()
        _ = registry.holderExited(id: record.id, reason: "killed by SIGKILL")
        #expect(refusal { try registry.reserve(Sample.record("web1", id: "2")) } == .nameTaken(name: "web1"))
        registry.ended(id: record.id, certificate: Sample.certificate(record, died: true), aftermath: .remember)
        try registry.reserve(Sample.record("web1", id: "2"))
        #expect(registry[record.id] == nil)
        #expect(registry["2"]?.state == .building)
        registry.checkInvariants()
    }

    @Test func `a death while building or stopping is left to whoever is at it`() throws {
        var building = Registry()
        let record = Sample.record("web1")
        try building.reserve(record)
        #expect(building.holderExited(id: record.id, reason: "gone") == .attended)
        let isRunning = building.built(id: record.id, record: record, figures: Sample.figures(record))
        #expect(!isRunning)
        var (stopping, _) = try Self.running()
        _ = try stopping.beginStop(name: Self.name)
        #expect(stopping.holderExited(id: record.id, reason: "gone") == .attended)
        #expect(stopping[record.id]?.state == .stopping)
    }

    @Test func `memory promised is what living TDs do not yet hold`() throws {
        var registry = Registry()
        let first = Sample.record("a", memory: 1 << 30)
        let second = Sample.record("b", memory: 1 << 20)
        try registry.reserve(first)
        try registry.reserve(second)
        func rest(_ memory: ByteCount, resident: ByteCount = .zero) -> ByteCount {
            MemoryDemand(guest: memory, on: .memfd).rest(after: .resident(resident))
        }
        #expect(registry.promised(expecting: .memfd, [:]) == rest(.gibibytes(1)) + rest(.mebibytes(1)))
        _ = registry.built(id: first.id, record: first, figures: Sample.figures(first, residentPrivate: 1 << 29))
        #expect(
            registry.promised(expecting: .memfd, [first.id: .resident(.mebibytes(512))])
                == rest(.gibibytes(1), resident: .mebibytes(512)) + rest(.mebibytes(1)))
        _ = registry.holderExited(id: first.id, reason: "gone")
        #expect(registry.promised(expecting: .memfd, [:]) == rest(.mebibytes(1)))
    }

    @Test func `what is promised to a living TD has its firmware in it`() throws {
        var registry = Registry()
        var record = Sample.record("a", memory: 1 << 30)
        record.firmwareBytes = 2 << 20
        try registry.reserve(record)
        let guest = ByteCount.gibibytes(1) + .mebibytes(2)
        #expect(registry.promised(expecting: .memfd, [:]) == MemoryDemand(guest: guest, on: .memfd).total)
        // Both are there: only a conversion's second side is still to come.
        #expect(registry.promised(expecting: .memfd, [record.id: .resident(guest)]) == .mebibytes(64))
    }

    @Test func `remembered failures are bounded`() throws {
        var registry = Registry()
        for number in 0..<(Registry.rememberedFailures + 40) {
            var record = Sample.record("td\(number)")
            record.createdAt = "2026-03-01T12:00:00.\(1000 + number)Z"
            try registry.reserve(record)
            _ = registry.built(id: record.id, record: record, figures: Sample.figures(record))
            _ = registry.holderExited(id: record.id, reason: "gone")
            registry.ended(id: record.id, certificate: Sample.certificate(record, died: true), aftermath: .remember)
        }
        #expect(registry.domains.count == Registry.rememberedFailures)
        #expect(registry["id-of-td0"] == nil)
        registry.checkInvariants()
    }

    @Test func `a report says what is known, and why it may be old`() throws {
        let (registry, record) = try Self.running()
        let domain = registry[record.id]!
        #expect(domain.report(fallbackBackend: .memfd).state == .runnable)
        #expect(domain.report(remark: "its holder does not answer", fallbackBackend: .memfd).reason != nil)
        var building = Registry()
        try building.reserve(record)
        let report = building[record.id]!.report(fallbackBackend: .guestMemfd)
        #expect(report.state == .building)
        #expect(report.privateBytes + report.sharedBytes + report.convertingBytes == report.memoryBytes)
    }
}
