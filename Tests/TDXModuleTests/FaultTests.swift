import MemoryUnits
import Synchronization
import TDXModule
import TDXStatusCodes
import Testing

@Suite struct `Faults on demand` {
    @Test(
        arguments: [
            (LockName.tdr, SeamcallLeaf.memPageAug, 0x8000_0200_0000_0002),
            (.opState, .memPageAug, 0x8000_0200_0000_00AC),
            (.septTree, .memPageAug, 0x8000_0200_0000_0092), (.septEntry, .memPageAug, 0x8000_0200_0000_0001),
            (.page, .memPageAug, 0x8000_0200_0000_0008), (.tdr, .memRangeBlock, 0x8000_0200_0000_0002),
            (.septTree, .memRangeBlock, 0x8000_0200_0000_0092), (.septEntry, .memPageRemove, 0x8000_0200_0000_0001),
            (.tdEpoch, .memTrack, 0x8000_0200_0000_00A9), (.tdr, .memTrack, 0x8000_0200_0000_0001),
            (.keyTable, .mngVpflushdone, 0x8000_0200_0000_00BA), (.keyTable, .phymemCacheWb, 0x8000_0200_0000_00BA),
            (.writeBack, .phymemCacheWb, 0x8000_0200_0000_00BC), (.tdvpr, .vpFlush, 0x8000_0200_0000_0001),
            (.tdr, .vpFlush, 0x8000_0200_0000_0080), (.tdEpoch, .vpEnter, 0x8000_0200_0000_00A9),
            (.opState, .vpEnter, 0x8000_0200_0000_00AC), (.page, .mngCreate, 0x8000_0200_0000_0001),
            (.tdr, .vpCreate, 0x8000_0200_0000_0002), (.page, .phymemPageReclaim, 0x8000_0200_0000_0001),
            (.system, .sysShutdown, 0x8000_0202_0000_0000),
        ] as [(LockName, SeamcallLeaf, UInt64)])
    func `a lock that somebody holds gives its status once`(lock: LockName, leaf: SeamcallLeaf, status: UInt64) throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0)
        try host.must(.memPageAug, rcx: 0x1000, rdx: tdr, r8: host.page())
        let page = host.page()
        func make() -> TDXStatus {
            switch leaf {
            case .memPageAug: host.call(leaf, rcx: 0x2000, rdx: tdr, r8: page)
            case .memRangeBlock, .memPageRemove: host.call(leaf, rcx: 0x1000, rdx: tdr)
            case .memTrack, .mngVpflushdone: host.call(leaf, rcx: tdr)
            case .vpFlush, .vpEnter: host.call(leaf, rcx: tdvpr)
            case .vpCreate, .phymemPageReclaim: host.call(leaf, rcx: page, rdx: tdr)
            case .mngCreate: host.call(leaf, rcx: page, rdx: 40)
            default: host.call(leaf)
            }
        }
        host.module.makeBusy(lock)
        #expect(make().rawValue == status)
        #expect(make().base != TDXStatus(status).base)
    }

    @Test func `no entropy, no key, and interrupts come as often as armed`() throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(1), packages: 2))
        let faults = host.module.faults
        let tdr = host.page()
        faults.arm(.entropy)
        #expect(host.call(.mngCreate, rcx: tdr, rdx: 33) == .rndNoEntropy)
        #expect(host.module.keyState(KeyID(33)) == .free)
        try host.must(.mngCreate, rcx: tdr, rdx: 33)
        #expect(host.call(.mngCreate, rcx: host.page(), rdx: 33) == .hkidNotFree)
        faults.arm(.keyGeneration, times: 2)
        #expect(host.call(.mngKeyConfig, rcx: tdr) == .keyGenerationFailed)
        #expect(host.call(.mngKeyConfig, rcx: tdr) == .keyGenerationFailed)
        try host.must(.mngKeyConfig, rcx: tdr)
        #expect(host.call(.mngKeyConfig, rcx: tdr) == .keyConfigured)
        #expect(host.call(.mngAddcx, rcx: host.page(), rdx: tdr) == .tdKeysNotConfigured)
        try host.must(.mngVpflushdone, rcx: tdr)
        faults.arm(.interrupt, times: 2)
        #expect(host.call(.phymemCacheWb) == .interruptedResumable)
        #expect(host.call(.phymemCacheWb, rcx: 1) == .interruptedResumable)
        #expect(host.call(.mngKeyFreeid, rcx: tdr) == .wbcacheNotComplete)
        try host.must(.phymemCacheWb, rcx: 1)
        #expect(host.call(.phymemCacheWb, rcx: 1) == .wbcacheResumeError)
        #expect(host.module.writeBackBitmap(KeyID(33)) == 2)
        host.processor = LogicalProcessorID(2)
        try host.must(.phymemCacheWb)
        try host.must(.mngKeyFreeid, rcx: tdr)
        #expect(host.call(.phymemCacheWb).rawValue == 0x0000_0821_0000_0000)
    }

    @Test func `a guest's RTMR lock is one of them`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0)
        try host.must(.memPageAug, rcx: 0, rdx: tdr, r8: host.page())
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0) == .completed(.success))
        host.module.makeBusy(.rtmr)
        #expect(host.guest(tdvpr, .mrRtmrExtend, rcx: 0, rdx: 0) == .completed(.operandBusy.with(.rtmr)))
        #expect(host.guest(tdvpr, .mrRtmrExtend, rcx: 0, rdx: 0) == .completed(.success))
        #expect(host.guest(tdvpr, .mrRtmrExtend, rcx: 0, rdx: 4) == .completed(.operandInvalid.with(.rdx)))
        host.exit(tdvpr)
    }

    @Test func `random busy locks are the same for the same seed`() throws {
        func statuses(_ seed: UInt64) throws -> [UInt64] {
            let host = try Host()
            let (tdr, _) = try host.makeRunnable()
            try host.makeTables(tdr, 0)
            host.module.makeBusyAtRandom(permille: 200, seed: seed)
            return (0..<200).map { host.call(.memPageAug, rcx: UInt64($0) << 12, rdx: tdr, r8: host.page()).rawValue }
        }
        let first = try statuses(7)
        #expect(try statuses(7) == first)
        #expect(try statuses(8) != first)
        #expect(first.contains(0) && first.contains { TDXStatus($0).isBusy })
    }
}

@Suite struct `A recorded trace` {
    /// A trust domain's whole life, with faults, as lines.
    func recorded() throws -> [String] {
        let host = try Host()
        let lines = Lines()
        host.module.record { lines.append($0.json()) }
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0)
        try host.must(.memPageAug, rcx: 0x1000, rdx: tdr, r8: host.page())
        host.module.makeBusy(.septTree)
        host.call(.memRangeBlock, rcx: 0x1000, rdx: tdr)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0x1000) == .completed(.success))
        #expect(host.guest(tdvpr, .mrRtmrExtend, rcx: 0x1000, rdx: 1) == .completed(.success))
        guard case .exit(let exit) = host.accept(tdvpr, 0x2000) else { return [] }
        host.exit(tdvpr, exit)
        try host.must(.vpFlush, rcx: tdvpr)
        try host.must(.mngVpflushdone, rcx: tdr)
        host.module.faults.arm(.interrupt, skipping: 3)
        host.call(.phymemCacheWb)
        try host.must(.phymemCacheWb, rcx: 1)
        try host.must(.mngKeyFreeid, rcx: tdr)
        return [TraceEvent.header(host.module, broughtUp: true)] + lines.all
    }

    final class Lines: Sendable {
        private let lines = Mutex<[String]>([])
        func append(_ line: String) { lines.withLock { $0.append(line) } }
        var all: [String] { lines.withLock { $0 } }
    }

    @Test func `replays with the same statuses and registers`() throws {
        let lines = try recorded()
        let replay = try TraceReplay(lines: lines)
        #expect(replay.disagreements == [])
        #expect(replay.calls == lines.count - 1 && replay.calls > 30)
    }

    @Test func `that was changed is found out, line and register`() throws {
        var lines = try recorded()
        let index = try #require(lines.firstIndex { $0.contains("TDH.MEM.PAGE.AUG") })
        lines[index] = lines[index].replacing(#""out":{"#, with: #""out":{"r15":"0x1","#)
        let replay = try TraceReplay(lines: lines)
        #expect(replay.disagreements.map(\.line) == [index + 1])
        #expect(replay.disagreements.first?.what == "r15" && replay.disagreements.first?.recorded == "0x1")
    }

    @Test(arguments: ["", "{}", "nonsense", #"{"version":"9"}"#])
    func `without a header is refused`(line: String) {
        #expect(throws: TraceFormatError.self) { try TraceReplay(lines: [line]) }
    }

    @Test func `whose memory reaches beyond 52 bits is refused`() throws {
        let header = try recorded()[0]
        let call =
            #"{"kind":"seamcall","in":{},"out":{},"memory":[{"address":"0xfffffffffffff","key":0,"bytes":"0000"}]}"#
        #expect(throws: TraceFormatError.badLine(2, "a memory address exceeds 52 bits")) {
            try TraceReplay(lines: [header, call])
        }
    }

    @Test func `with a broken line is refused by number`() throws {
        let lines = try recorded()
        let error = #expect(throws: TraceFormatError.self) { try TraceReplay(lines: lines.prefix(3) + ["{}"]) }
        guard case .badLine(4, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }
}

@Suite struct `The latency model` {
    @Test(
        arguments: [
            (4, 15_259, 5_086), (32, 18_432, 4_777), (64, 52_824, 4_454), (18, 16_845, 4_932), (1, 15_259, 5_086),
            (100, 52_824, 4_454),
        ] as [(Int, UInt64, UInt64)])
    func `adds up to the published time of a page`(vcpus: Int, removal: UInt64, reclaim: UInt64) {
        let model = LatencyModel.published
        let sum = [SeamcallLeaf.memRangeBlock, .memTrack, .memPageRemove, .phymemPageWbinvd].reduce(0) {
            $0 + model.nanoseconds($1, vcpus: vcpus)
        }
        #expect(sum == removal)
        #expect(model.nanoseconds(.phymemPageReclaim, vcpus: vcpus) == reclaim)
    }

    /// Gibibytes, vCPUs, seconds without and with the key released first, as they were posted.
    @Test(arguments: [(18, 4, 72, 24), (107, 32, 517, 134), (400, 64, 5539, 467)] as [(UInt64, Int, Double, Double)])
    func `meets each of the six posted times within a thousandth`(
        gib: UInt64, vcpus: Int, live: Double, released: Double
    ) {
        let model = LatencyModel.published
        func seconds(_ leaves: [SeamcallLeaf]) -> Double {
            Double(leaves.reduce(0) { $0 + model.nanoseconds($1, vcpus: vcpus) }) * Double(gib << 18) / 1e9
        }
        let removal = seconds([.memRangeBlock, .memTrack, .memPageRemove, .phymemPageWbinvd])
        let reclaim = seconds([.phymemPageReclaim])
        #expect(abs(removal - live) < 0.001 * live, "\(removal)")
        #expect(abs(reclaim - released) < 0.001 * released, "\(reclaim)")
        if vcpus == 64 { #expect((11.8...11.9).contains(removal / reclaim), "\(removal / reclaim)") }
    }

    @Test(arguments: [(1, 5_086), (5, 5_075)] as [(Int, UInt64)])
    func `takes a reclaim's cost by the vCPUs of the page's owner`(vcpus: Int, nanoseconds: UInt64) throws {
        let host = try Host()
        let tdr = try host.makeTD()
        let all = try (0..<vcpus).map { _ in try host.makeVCPU(tdr) }
        try host.must(.mrFinalize, rcx: tdr)
        for vcpu in all { try host.must(.vpFlush, rcx: vcpu) }
        try host.must(.mngVpflushdone, rcx: tdr)
        for package in 0..<host.platform.packages {
            host.processor = LogicalProcessorID(UInt32(package * host.platform.logicalProcessorsPerPackage))
            try host.must(.phymemCacheWb)
        }
        try host.must(.mngKeyFreeid, rcx: tdr)
        host.module.setLatencyModel(.published)
        try host.must(.phymemPageReclaim, rcx: all[0])
        #expect(host.module.takeLatencyTotals().nanoseconds == nanoseconds)
    }

    @Test func `counts calls while it is set`() throws {
        let host = try Host()
        host.call(.phymemPageRdmd, rcx: 0)
        host.module.setLatencyModel(.published)
        host.call(.phymemPageReclaim, rcx: 0)
        host.call(.phymemPageReclaim, rcx: 0)
        let totals = host.module.takeLatencyTotals()
        #expect(totals.calls == 2 && totals.nanoseconds == 10_172 && totals.callsByLeaf == [.phymemPageReclaim: 2])
        #expect(host.module.takeLatencyTotals().calls == 0)
        host.module.setLatencyModel(nil)
        host.call(.phymemPageReclaim, rcx: 0)
        #expect(host.module.takeLatencyTotals().calls == 0)
    }
}
