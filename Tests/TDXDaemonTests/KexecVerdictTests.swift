import ControlInterface
import LinuxSystem
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct KexecVerdictTests {
    static let plainHost = KexecReadings(
        isImageLoaded: false, isCrashKernelLoaded: false, hasPartialWriteErratum: false, usesTDX: false,
        kernelRelease: "7.2.0")
    static let record = Sample.record("web1", memory: 1 << 30)

    static func inventory(
        _ state: TrustDomainState?, isAnswered: Bool = true, converting: UInt64 = 0, unproven: [String] = [],
        draining: Int = 0
    ) -> Inventory {
        var domains: [TrustDomain] = []
        if let state {
            var domain = Sample.figures(record)
            domain.state = state
            domain.privateBytes = 0
            domain.convertingBytes = converting
            domains = [domain]
        }
        return Inventory(
            domains, answered: isAnswered ? [record.id] : [], unproven: unproven, keysTaken: draining,
            keysDraining: draining)
    }

    static func verdict(
        _ inventory: Inventory, _ host: KexecReadings = plainHost, drain: DrainPurpose? = nil,
        others: OtherVMs? = nil
    ) -> KexecVerdict {
        KexecVerdict(
            inventory: inventory, host: host, backend: .memfd,
            drain: drain.map { DrainRecord(purpose: $0, since: "2026-01-01T00:00:00.000Z", policy: .auto) },
            others: others, writeRate: 1e9, memory: .gibibytes(100))
    }

    static func failing(_ verdict: KexecVerdict) -> [String] {
        verdict.checks.filter { $0.result == .fail }.map(\.name)
    }

    @Test func `a quarantined TD is named, as a danger and among what stands against a drain`() {
        var inventory = Self.inventory(.draining, draining: 1)
        inventory.quarantined = ["web1"]
        let verdict = Self.verdict(inventory)
        #expect(Self.failing(verdict).contains("proofs"))
        #expect(verdict.checks.first { $0.name == "proofs" }?.evidence == "quarantined: web1")
        #expect(
            inventory.blockers(.shutdown).contains(
                "web1 is quarantined until the host is restarted: see its certificate"))
    }

    @Test func `a host without any TD is safe`() {
        let verdict = Self.verdict(Self.inventory(nil))
        #expect(Self.failing(verdict) == [])
        #expect(ManagerInterface.CheckKexec.Reply(backend: .memfd, checks: verdict.checks, answers: []).safe)
    }

    @Test(arguments: [TrustDomainState.building, .runnable, .stopping, .draining])
    func `a TD that is not proven back stands against it`(_ state: TrustDomainState) {
        #expect(Self.failing(Self.verdict(Self.inventory(state))).contains("tds"))
    }

    @Test func `a page in transition counts as much as a private one`() {
        let verdict = Self.verdict(Self.inventory(.runnable, converting: 4096))
        #expect(Self.failing(verdict) == ["tds", "pages"])
    }

    @Test func `all memory of a TD that does not answer counts as private`() {
        let inventory = Self.inventory(.runnable, isAnswered: false)
        #expect(inventory.privateBytes == 1 << 30 && inventory.unknown == ["web1"])
        #expect(Self.verdict(inventory).checks.contains { $0.evidence.contains("do not report it: web1") })
        // Nor is it known of one that is on its way out.
        #expect(Self.inventory(.draining, isAnswered: false).privateBytes == 1 << 30)
    }

    @Test func `an erratum is a danger as long as an end is unproven`() {
        var host = Self.plainHost
        host.hasPartialWriteErratum = true
        #expect(Self.failing(Self.verdict(Self.inventory(.failed, unproven: ["web1"]), host)) == ["proofs", "erratum"])
    }

    @Test func `what is not known of the TDX module is not claimed`() {
        var host = Self.plainHost
        host.usesTDX = nil
        host.isCrashKernelLoaded = true
        func evidence(_ name: String, _ host: KexecReadings) -> String? {
            Self.verdict(Self.inventory(nil), host).checks.first { $0.name == name }?.evidence
        }
        let answer = Self.verdict(Self.inventory(nil), host).answers.first { $0.name == "refuse_while_module_is_up" }
        #expect(answer != nil && answer?.allows == nil)
        host.usesTDX = true
        host.kernelRelease = "6.18.0"
        #expect(evidence("kernel", host)?.hasSuffix("is not known") == true)
        #expect(evidence("crash", host)?.contains("disables") == false)
        host.kernelRelease = "7.2.0"
        #expect(evidence("kernel", host)?.contains("disables") == true)
        #expect(evidence("crash", host)?.contains("disables") == true)
    }

    @Test func `a failed TD that is proven back stands against nothing, and one that is not does`() {
        #expect(Self.failing(Self.verdict(Self.inventory(.failed))) == [])
        #expect(Self.failing(Self.verdict(Self.inventory(.failed, unproven: ["web1"]))) == ["proofs"])
        #expect(Self.failing(Self.verdict(Self.inventory(nil, draining: 1))) == ["keys"])
    }

    @Test func `erratum, loaded image and refusing kernel are told`() {
        var host = Self.plainHost
        host.hasPartialWriteErratum = true
        host.isImageLoaded = true
        // With nothing left neither of them is a danger.
        #expect(Self.failing(Self.verdict(Self.inventory(nil), host)) == [])
        #expect(
            Self.failing(Self.verdict(Self.inventory(.runnable, converting: 4096), host))
                == ["tds", "pages", "erratum", "image"])
        host.usesTDX = true
        host.kernelRelease = "6.18.0"
        #expect(Self.failing(Self.verdict(Self.inventory(nil), host)) == ["kernel"])
        let blind = Self.verdict(Self.inventory(nil), KexecReadings())
        #expect(Self.failing(blind) == [] && blind.checks.count { $0.result == .skip } == 4)
    }

    @Test func `each known answer says what it would do`() {
        func allows(_ verdict: KexecVerdict) -> [Bool?] { verdict.answers.map(\.allows) }
        #expect(allows(Self.verdict(Self.inventory(nil))) == [true, true, false, nil])
        #expect(allows(Self.verdict(Self.inventory(.runnable), drain: .kexec)) == [true, false, false, nil])
        #expect(allows(Self.verdict(Self.inventory(nil), drain: .kexec)) == [true, true, true, nil])
        #expect(allows(Self.verdict(Self.inventory(nil), drain: .maintenance)) == [true, true, false, nil])
        var host = Self.plainHost
        host.usesTDX = true
        #expect(allows(Self.verdict(Self.inventory(nil), host))[0] == false)
        #expect(Self.verdict(Self.inventory(nil)).answers[3].reason.contains("about 107.4 s for 100.0 GiB"))
    }

    @Test func `a module update waits for what is being built alone`() {
        #expect(Self.inventory(.runnable).blockers(.moduleUpdate) == [])
        #expect(Self.inventory(.building).blockers(.moduleUpdate) == ["1 TD being built"])
        #expect(Self.inventory(.runnable).blockers(.shutdown) == ["1 TD running"])
    }

    @Test func `a drain for another kernel ends when that runs, one for maintenance does not`() {
        for purpose in DrainPurpose.allCases {
            let record = DrainRecord(purpose: purpose, since: "", policy: .auto, bootID: "one")
            #expect(!record.isFulfilled(in: "one"))
            #expect(!record.isFulfilled(in: nil))
            #expect(record.isFulfilled(in: "two") == (purpose == .kexec || purpose == .shutdown))
        }
        #expect(!DrainRecord(purpose: .kexec, since: "", policy: .auto).isFulfilled(in: "two"))
        #expect(DrainRecord.currentBootID?.count == 36)
    }

    @Test func `writing memory is measured`() throws {
        #expect(try #require(WriteRate.measure()) > 1e6)
    }
}
