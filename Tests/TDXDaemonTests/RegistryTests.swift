import ControlInterface
import DomainEnd
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct RegistryTests {
    static let name = TrustDomainName(unchecked: "web1")

    static func running() throws -> (Registry, DomainRecord) {
        var registry = Registry()
        let record = Sample.record("web1")
        try registry.reserve(record)
        registry.setBuilt(id: record.id, record: record, figures: Sample.figures(record))
        #expect(registry.handle(.built, id: record.id) == [.useKey])
        return (registry, record)
    }

    /// Takes a TD through the rest of its end, as far as the certificate.
    static func end(
        _ registry: inout Registry, _ record: DomainRecord, _ look: Look = .proven, kept: Kept = [],
        reason: String? = nil
    ) -> [EndAction] {
        let died = registry[record.id]?.end.holderDied ?? false
        for event in [EndEvent.recordRead(kept), .memoryDone, .proofTimePassed, .looked(look)] {
            _ = registry.handle(event, id: record.id)
        }
        let actions = registry.handle(.certificateWritten(true), id: record.id)
        registry.list(
            id: record.id, certificate: Sample.certificate(record, holds: look == .proven, died: died), reason: reason)
        if actions.contains(.forget) { registry.forget(id: record.id) }
        return actions
    }

    /// A TD whose holder was killed, and whose end is proven.
    static func reaped(_ look: Look = .proven) throws -> (Registry, DomainRecord) {
        var (registry, record) = try running()
        #expect(registry.handle(.holderGone(inOrder: false), id: record.id).contains(.readHolderRecord))
        #expect(end(&registry, record, look, reason: "killed by SIGKILL").contains(.listAsFailed))
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

    @Test func `a TD that is not known is no such domain, and nothing happens to it`() {
        var registry = Registry()
        #expect(refusal { _ = try registry.find(name: Self.name) } == .noSuchDomain(name: "web1"))
        #expect(registry.handle(.holderGone(inOrder: false), id: "x").isEmpty)
    }

    @Test func `a proven stop forgets the TD`() throws {
        var (registry, record) = try Self.running()
        #expect(registry.handle(.stopAsked(StopTerms()), id: record.id).last == .askHolderToHalt)
        #expect(registry[record.id]?.state == .stopping)
        _ = registry.handle(.halted([]), id: record.id)
        _ = registry.handle(.released([], isWithheld: false), id: record.id)
        _ = registry.handle(.holderGone(inOrder: true), id: record.id)
        #expect(Self.end(&registry, record) == [.removeRecord, .giveKeyBack, .forget])
        #expect(registry.domains.isEmpty)
        registry.checkInvariants()
    }

    @Test func `every stage of an end has a state that clients know`() throws {
        var (registry, record) = try Self.running()
        func state() -> TrustDomainState? { registry[record.id]?.state }
        _ = registry.handle(.stopAsked(StopTerms(holdsMemory: true)), id: record.id)
        #expect(state() == .stopping)
        _ = registry.handle(.halted([]), id: record.id)
        #expect(state() == .draining && registry[record.id]?.end.stage == .held)
        _ = registry.handle(.holderGone(inOrder: false), id: record.id)
        #expect(state() == .draining)
        #expect(Self.end(&registry, record, .open).contains(.listAsOpen))
        #expect(state() == .draining)
        #expect(registry.handle(.lookDue, id: record.id) == [.look])
    }

    @Test func `a reaped TD stays listed as failed until it is stopped`() throws {
        var (registry, record) = try Self.reaped()
        #expect(registry[record.id]?.state == .failed)
        #expect(registry[record.id]?.reason == "killed by SIGKILL")
        #expect(registry.handle(.stopAsked(StopTerms()), id: record.id) == [.answerKnown, .forget])
    }

    @Test func `an end that can never be proven keeps its name until a client takes note of it`() throws {
        var (registry, record) = try Self.reaped(.unmeasured)
        #expect(refusal { try registry.reserve(Sample.record("web1", id: "2")) } == .nameTaken(name: "web1"))
        #expect(registry.handle(.stopAsked(StopTerms()), id: record.id) == [.answerKnown, .forget])
        registry.forget(id: record.id)
        try registry.reserve(Sample.record("web1", id: "2"))
    }

    @Test func `a failed TD keeps its name from another owner, proven or not`() throws {
        for look in [Look.proven, .unmeasured] {
            var (registry, record) = try Self.reaped(look)
            let before = registry[record.id]
            var other = Sample.record("web1", id: "2")
            other.ownerUID = record.ownerUID + 1
            #expect(refusal { try registry.reserve(other) } == .nameTaken(name: "web1"))
            #expect(refusal { try registry.checkName(Self.name, for: other.ownerUID) } == .nameTaken(name: "web1"))
            #expect(registry[record.id] == before, "nothing was changed")
        }
    }

    @Test func `a failed and reaped TD gives its name up to its owner`() throws {
        var (registry, record) = try Self.reaped()
        try registry.reserve(Sample.record("web1", id: "2"))
        #expect(registry[record.id] == nil)
        #expect(registry["2"]?.state == .building)
        registry.checkInvariants()
    }

    @Test func `a quarantined TD keeps its name, and a stop frees nothing`() throws {
        var (registry, record) = try Self.running()
        _ = registry.handle(.holderGone(inOrder: false), id: record.id)
        #expect(Self.end(&registry, record, .proven, kept: [.key, .memory]) == [.listAsQuarantined])
        #expect(registry[record.id]?.state == .draining)
        #expect(refusal { try registry.checkName(Self.name, for: 1000) } == .nameTaken(name: "web1"))
        #expect(registry.handle(.stopAsked(StopTerms()), id: record.id) == [.answerKnown])
        #expect(registry.handle(.lookDue, id: record.id).isEmpty)
        #expect(registry[record.id]?.end.stage == .quarantined)
    }

    @Test func `a TD whose holder died while it was built cannot be stopped until its creation has cleared it up`()
        throws
    {
        var registry = Registry()
        let record = Sample.record("web1")
        try registry.reserve(record)
        #expect(registry.handle(.holderGone(inOrder: false), id: record.id).isEmpty)
        #expect(registry[record.id]?.state == .failed)
        #expect(registry.handle(.built, id: record.id).isEmpty)
        let before = registry[record.id]
        #expect(registry.handle(.stopAsked(StopTerms()), id: record.id) == [.refuse])
        #expect(registry.handle(.reclaimAsked, id: record.id) == [.refuse])
        #expect(registry[record.id] == before)
    }

    @Test func `one owner's failures do not push out another's`() throws {
        var registry = Registry()
        for number in 0..<(Registry.rememberedFailures + 40) {
            var record = Sample.record("td\(number)")
            record.createdAt = "2026-03-01T12:00:00.\(1000 + number)Z"
            record.ownerUID = number == 0 ? 1 : 2
            try registry.reserve(record)
            _ = registry.handle(.built, id: record.id)
            _ = registry.handle(.holderGone(inOrder: false), id: record.id)
            _ = Self.end(&registry, record)
        }
        #expect(registry.domains.count == Registry.rememberedFailures)
        #expect(registry["id-of-td0"] != nil && registry["id-of-td1"] == nil)
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
        registry.setBuilt(id: first.id, record: first, figures: Sample.figures(first, residentPrivate: 1 << 29))
        _ = registry.handle(.built, id: first.id)
        #expect(
            registry.promised(expecting: .memfd, [first.id: .resident(.mebibytes(512))])
                == rest(.gibibytes(1), resident: .mebibytes(512)) + rest(.mebibytes(1)))
        _ = registry.handle(.holderGone(inOrder: false), id: first.id)
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
            _ = registry.handle(.built, id: record.id)
            _ = registry.handle(.holderGone(inOrder: false), id: record.id)
            _ = Self.end(&registry, record)
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
