import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import TDXStatusCodes
import Terms
import TestSupport
import Testing

@testable import ConfidentialMemory

@Suite struct TeardownTests {
    /// Whatever takes pages away from a guest.
    static let zaps: Set<String> = [
        "punch", "delete-slot", "attributes", "drop-mappings", "unmap", "close-file", "close-vm", "close-vcpu",
    ]

    private static func traits(_ terminate: PlainKernel.Traits.Terminate, busy: Int = 0) -> PlainKernel.Traits {
        var traits = PlainKernel.Traits()
        traits.terminate = terminate
        traits.busyTerminations = busy
        return traits
    }

    /// A TD with memory resident on both sides.
    private static func makeDomain(_ bench: TestBench) throws -> TrustDomain {
        let domain = try TrustDomain(try TestBench.configuration(), system: bench.system, host: bench.host)
        _ = try domain.convert(range(0x20_0000, mebibytes: 2), to: .shared)
        try domain.memory.fill(range(0x10_0000, mebibytes: 4), with: 0xEE)
        try domain.memory.fill(range(0x120_0000, mebibytes: 1), with: 0xEE)
        bench.journal.reset()
        return domain
    }

    @Test(arguments: [PlainKernel.Traits.Terminate.announced, .unannounced])
    func `nothing is zapped before the TD is terminated`(terminate: PlainKernel.Traits.Terminate) throws {
        let bench = TestBench(Self.traits(terminate))
        let report = try Self.makeDomain(bench).stop()
        let names = bench.journal.names
        let terminated = try #require(names.firstIndex(of: "terminate"))
        #expect(names[..<terminated].allSatisfy { !Self.zaps.contains($0) }, "\(names)")
        #expect(names.contains("punch"))
        #expect(names.allSatisfy { $0 != "delete-slot" && $0 != "attributes" })
        #expect(report.path == .terminateFirst)
        #expect(report.failures.isEmpty)
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `a halted TD keeps its memory until it is released`() throws {
        let bench = TestBench(Self.traits(.announced))
        let domain = try Self.makeDomain(bench)
        let before = try domain.memory.residency()
        let first = try domain.halt()
        #expect(first.phases.map(\.name) == [.quiesce, .terminate])
        #expect(bench.journal.names.allSatisfy { !Self.zaps.contains($0) }, "\(bench.journal.names)")
        #expect(domain.state == .halted)
        #expect(domain.describe().resident == before)
        #expect(throws: TrustDomainError.wrongState(.halted, operation: "stop")) { try domain.stop() }
        let report = try domain.release(after: first)
        #expect(report.phases.map(\.name) == [.quiesce, .terminate, .release, .close])
        #expect(report.released == before.total)
        #expect(report.path == .terminateFirst)
        #expect(bench.held == KernelLedger.Counts())
        #expect(throws: TrustDomainError.wrongState(.released, operation: "release")) {
            try domain.release(after: first)
        }
    }

    @Test func `a pace admits no chunk before it is due, and a new pace counts at once`() {
        // One byte a second: the second chunk would come in about a day unless the pace is lifted.
        let pace = ReleasePace(1)
        pace.admit(.kibibytes(100)) { Issue.record("the first chunk waits for nothing") }
        var waits = 0
        pace.admit(.kibibytes(100)) {
            waits += 1
            if waits == 3 { pace.set(nil) }
        }
        #expect(waits == 3)
        #expect(pace.bytesPerSecond == nil)
    }

    @Test(arguments: [[1 << 20], [1 << 20, 2 << 20], [4 << 20, 1 << 20, 1 << 20, 3 << 20]] as [[UInt64]])
    func `a pace is kept across any number of settings`(paces: [UInt64]) {
        // Virtual time: a client sets the pace every 500 ms while 32 MiB chunks are asked for.
        let pace = ReleasePace(paces[0])
        var now = MonotonicInstant(nanoseconds: 1_000_000_000)
        var released = 0.0
        var allowed = 0.0
        for step in 0..<2_000 {
            let current = paces[step % paces.count]
            pace.set(current, at: now)
            while pace.take(.mebibytes(32), at: now) == nil { released += Double(32 << 20) }
            allowed += Double(current) / 2
            now = now.adding(milliseconds: 500)
        }
        #expect(released <= allowed + Double(32 << 20), "at most one chunk ahead")
        #expect(released >= allowed - Double(64 << 20), "and not slower than asked for")
    }

    @Test func `as fast as it goes forgives what is owed, and a pace after it begins anew`() {
        let pace = ReleasePace(1)
        let now = MonotonicInstant(nanoseconds: 1_000_000_000)
        #expect(pace.take(.mebibytes(2), at: now) == nil)
        #expect(pace.take(.mebibytes(2), at: now) != nil)
        pace.set(nil, at: now)
        #expect(pace.take(.mebibytes(2), at: now) == nil)
        pace.set(0, at: now)
        #expect(pace.bytesPerSecond == 1)
        #expect(pace.take(.mebibytes(2), at: now) == nil)
        #expect(pace.take(.mebibytes(2), at: now) != nil)
    }

    @Test func `an order that zaps first would be seen`() throws {
        // The watch above is worth nothing if it cannot fail: a plan without terminate on a kernel that has it.
        let bench = TestBench(Self.traits(.announced))
        let report = try Self.makeDomain(bench).stop(policy: TeardownPolicy(order: .dynamicRemoval))
        #expect(report.path == .dynamicRemoval)
        #expect(!bench.journal.names.contains("terminate"))
        #expect(bench.journal.names.contains("punch"))
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `host mappings go before their file is punched, and files are closed last`() throws {
        let bench = TestBench(Self.traits(.announced))
        _ = try Self.makeDomain(bench).stop()
        let calls = bench.journal.names
        #expect(calls.firstIndex(of: "drop-mappings")! < calls.firstIndex(of: "punch")!)
        #expect(calls.lastIndex(of: "punch")! < calls.firstIndex(of: "close-file")!)
        #expect(calls.lastIndex(of: "close-file")! < calls.firstIndex(of: "close-vcpu")!)
        #expect(calls.last == "close-vm" && calls.lastIndex(of: "close-vcpu") == calls.count - 2)
    }

    @Test func `a kernel without cachestat converts and releases all the same, and proves nothing`() throws {
        let bench = TestBench(Self.traits(.announced))
        let domain = try Self.makeDomain(bench)
        bench.journal.fail { $0.name == "resident" ? .noFunction : nil }
        #expect(try domain.convert(range(0x60_0000, mebibytes: 2), to: .shared).changed == .mebibytes(2))
        bench.journal.reset()
        let report = try domain.stop()
        #expect(report.failures.isEmpty)
        #expect(report.remaining == nil)
        #expect(bench.journal.names.contains("punch"))
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `phases report what was given back`() throws {
        let bench = TestBench(Self.traits(.announced))
        let domain = try Self.makeDomain(bench)
        let heard = Mutex<[TeardownProgress]>([])
        let report = try domain.stop(policy: TeardownPolicy(chunk: .mebibytes(2))) { progress in
            heard.withLock { $0.append(progress) }
        }
        #expect(report.phases.map(\.name) == [.quiesce, .terminate, .release, .close])
        #expect(report.released == .mebibytes(5))
        #expect(report.phases[2].bytes == .mebibytes(5))
        #expect(report.remaining == .zero)
        #expect(report.phases.allSatisfy { $0.milliseconds >= 0 })
        #expect(report.phases[1].calls == 1)
        let done = heard.withLock { $0.filter { $0.phase == .release }.map(\.done) }
        #expect(done == done.sorted() && done.last == .mebibytes(5) && done.count > 3)
        #expect(
            heard.withLock { heard in
                heard.allSatisfy { $0.total == ([.release, .close].contains($0.phase) ? .mebibytes(5) : .zero) }
            })
    }

    @Test func `a kernel without the call is found out and the slow way is taken`() throws {
        let bench = TestBench(Self.traits(.absent))
        let report = try Self.makeDomain(bench).stop()
        #expect(report.path == .dynamicRemoval)
        #expect(report.failures.isEmpty)
        #expect(report.phases[1].detail == "this kernel has no KVM_TDX_TERMINATE_VM (EINVAL)")
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `a busy TD is terminated in the end, with the reason`() throws {
        let bench = TestBench(Self.traits(.announced, busy: 3))
        let report = try Self.makeDomain(bench).stop()
        #expect(report.path == .terminateFirst)
        #expect(report.phases[1].calls == 4)
        #expect(report.phases[1].detail == "EBUSY 3 times: a vCPU's lock was held")
        #expect(report.failures.isEmpty)
    }

    @Test func `a TD that stays busy is released all the same, and the failure is told`() throws {
        let bench = TestBench(Self.traits(.announced, busy: 1_000))
        let report = try Self.makeDomain(bench).stop(policy: TeardownPolicy(terminateAttempts: 2))
        #expect(report.path == .dynamicRemoval)
        #expect(report.phases[1].calls == 2)
        #expect(report.failures.words?.hasPrefix("not terminated, and ended page by page: ") == true)
        #expect(report.remaining == .zero)
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `a punch that fails is told, and everything else still comes back`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        bench.journal.fail { $0.description.hasPrefix("punch private 0 B") ? .ioError : nil }
        let report = try domain.stop(policy: TeardownPolicy(chunk: .mebibytes(2)))
        #expect(report.failures.words?.hasPrefix("release: 0x0–0x200000 (2 MiB): punch") == true, "\(report)")
        #expect(report.released == .mebibytes(4))
        #expect(report.remaining == .mebibytes(1))
        #expect(bench.held == KernelLedger.Counts())
    }

    /// What may go wrong in a phase, and how the kernel is made to.
    enum Fault: String, CaseIterable {
        case none, vcpuStuck, terminateBusy, terminateRefused, punchRefused, removalFailed

        var kind: EndFailureKind? {
            switch self {
            case .none: nil
            case .vcpuStuck: .vcpuStuck
            case .terminateBusy: .terminateBusy
            case .terminateRefused: .terminateRefused
            case .punchRefused: .punchRefused
            case .removalFailed: .removalFailed
            }
        }
    }

    @Test(arguments: Fault.allCases, Fault.allCases)
    func `whatever fails in one phase, a failure of another is kept`(first: Fault, second: Fault) throws {
        let faults = Set([first, second])
        // One phase fails in one way.
        guard !faults.isSuperset(of: [.terminateBusy, .terminateRefused]) else { return }
        let bench = TestBench(Self.traits(.announced, busy: faults.contains(.terminateBusy) ? 1_000 : 0))
        let domain = try Self.makeDomain(bench)
        if faults.contains(.vcpuStuck) { #expect(domain.gate.enter(domain.vcpus[1]) {}) }
        bench.journal.fail { call in
            if faults.contains(.terminateRefused), call.name == "terminate" { return .ioError }
            if faults.contains(.punchRefused), call.description.hasPrefix("punch private 0 B") { return .ioError }
            return nil
        }
        let policy = TeardownPolicy(chunk: .mebibytes(2), quiesceMilliseconds: 5, terminateAttempts: 2, threads: 1)
        let removal = RemovalFailure(reason: "the module refused a page", status: TDXStatus(0xc000_0300_0000_0001))
        // The first look is before any punch.
        let looks = Mutex(0)
        let report = try domain.release(
            after: try domain.halt(policy: policy), policy: policy,
            emulatedFailure: {
                let look = looks.withLock { looks in
                    looks += 1
                    return looks
                }
                return faults.contains(.removalFailed) && look > 1 ? removal : nil
            })
        #expect(Set(report.failures.map(\.kind)) == Set(faults.compactMap(\.kind)), "\(report.failures)")
        #expect(report.isWithheld == faults.contains(.removalFailed))
        let keeps: Set<Fault> = [.terminateRefused, .punchRefused, .removalFailed]
        #expect(report.failures.keepsMemory == !faults.isDisjoint(with: keeps))
        #expect(report.failures.keepsKey == !faults.isDisjoint(with: keeps))
        if faults.contains(.removalFailed) { #expect(report.failures.contains { $0.status == "0xc000030000000001" }) }
    }

    @Test func `memory whose count is refused is released all the same`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        bench.journal.fail { $0.name == "resident" ? .ioError : nil }
        let report = try domain.stop()
        #expect(bench.journal.names.filter { $0 == "punch" }.count == 4, "two shards, both sides")
        #expect(report.remaining == nil, "nobody knows")
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `a full chunk is counted once, and any other again before its punch`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory(regions: [range(0, mebibytes: 16)])
        try memory.fill(range(0, mebibytes: 4), with: 1)
        try memory.fill(range(0x60_0000, pages: 3), with: 2)
        let policy = TeardownPolicy(chunk: .mebibytes(2))
        let teardown = Teardown(machine: machine, vcpus: [], memory: memory, gate: VCPUGate(), policy: policy)
        let plan = try TeardownPlan(teardown.facts(terminate: .absent), policy: policy)
        #expect(plan.resident == .mebibytes(4) + .kibibytes(12))
        // What comes between the count and the release, in a chunk that was empty and in one that was not full.
        try memory.fill(range(0x80_0000, pages: 1), with: 3)
        try memory.fill(range(0x61_0000, pages: 1), with: 4)
        bench.journal.reset()
        let report = teardown.run(plan)
        #expect(report.released == .mebibytes(4) + .kibibytes(20), "\(report)")
        #expect(report.remaining == .zero)
        let calls = bench.journal.calls.map(\.description)
        for full in ["0 B", "2 MiB"] {
            #expect(!calls.contains { $0.hasPrefix("resident shared \(full) + 2 MiB") }, "\(calls)")
        }
        for other in ["6 MiB", "8 MiB"] {
            #expect(calls.contains { $0.hasPrefix("resident shared \(other) + 2 MiB") }, "\(calls)")
        }
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `a walk looks at every chunk that is not empty by itself, and through emptiness in long steps`() {
        var random = SeededRandom(seed: 7)
        for round in 0..<200 {
            let chunks = 1 + random.below(400)
            let size = ByteCount(chunks * 10 - random.below(9))
            let density = 1 + random.below(60)
            let present = Set((0..<chunks).filter { _ in random.below(density) == 0 })
            var walk = ChunkWalk(size: size, chunk: ByteCount(10))
            var covered = ByteCount.zero
            var single: Set<UInt64> = []
            while let part = walk.next {
                #expect(part.offset == covered, "seed 7, round \(round)")
                let numbers = part.offset.rawValue / 10...(part.offset + part.length - ByteCount(1)).rawValue / 10
                let isEmpty = present.isDisjoint(with: numbers)
                guard walk.looked(at: part, isEmpty: isEmpty) else { continue }
                covered += part.length
                guard !isEmpty else { continue }
                #expect(numbers.count == 1, "seed 7, round \(round)")
                single.insert(numbers.lowerBound)
            }
            #expect(covered == size && single == present, "seed 7, round \(round)")
        }
        var walk = ChunkWalk(size: .gibibytes(1024), chunk: .mebibytes(2))
        var looks = 0
        while let part = walk.next {
            _ = walk.looked(at: part, isEmpty: true)
            looks += 1
        }
        #expect(looks < 100, "512 Ki empty chunks")
    }

    @Test func `terminate-first is refused where it is known to be absent, and the TD lives on`() throws {
        let facts = TeardownFacts(terminate: .absent, vcpus: 1, shards: [], cpus: 1)
        #expect(throws: TeardownRefused.terminateAbsent) {
            try TeardownPlan(facts, policy: TeardownPolicy(order: .terminateFirst))
        }
    }

    @Test(arguments: [TerminateSupport.present, .absent, .unknown], TeardownPolicy.Order.allCases)
    func `no plan releases or closes before it terminates`(
        terminate: TerminateSupport, order: TeardownPolicy.Order
    ) throws {
        let shard = TeardownFacts.Shard(size: .gibibytes(1))
        let facts = TeardownFacts(terminate: terminate, vcpus: 4, shards: [shard, shard, shard], cpus: 2)
        guard let plan = try? TeardownPlan(facts, policy: TeardownPolicy(order: order)) else {
            #expect(terminate == .absent && order == .terminateFirst)
            return
        }
        #expect(plan.steps.first == .quiesce(vcpus: 4))
        #expect(
            plan.steps.suffix(2) == [
                .release(shards: 3, threads: 2, chunk: .mebibytes(32)), .close(files: 3, vcpus: 4),
            ])
        let terminates = order != .dynamicRemoval && terminate != .absent
        #expect(plan.steps.count == (terminates ? 4 : 3))
        if terminates { #expect(plan.steps[1] == .terminate(mayBeAbsent: terminate == .unknown)) }
    }

    @Test func `a vCPU that runs is driven out and never let in again`() throws {
        let bench = TestBench()
        let machine = try bench.system.createVirtualMachine(.tdx)
        try machine.enable(.splitIRQChip, [24])
        try machine.tdxInitialize(
            TDXInitialization(
                attributes: 0, xfam: 3, mrConfigID: TrustDomainConfiguration.noIdentity,
                mrOwner: TrustDomainConfiguration.noIdentity, mrOwnerConfig: TrustDomainConfiguration.noIdentity,
                cpuid: TrustDomainConfiguration.leastCPUID))
        let vcpu = try machine.createVCPU(id: 0)
        let gate = VCPUGate()
        #expect(gate.enter(vcpu) { gate.leave(vcpu) })
        #expect(gate.inside == [0])
        #expect(gate.close(vcpus: [vcpu], milliseconds: 60_000) == [])
        #expect(!gate.enter(vcpu) {})
        #expect(bench.journal.names.contains("immediate-exit"))
    }

    @Test func `a vCPU that cannot be stopped is reported, not waited for`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        #expect(domain.gate.enter(domain.vcpus[1]) {})
        let report = try domain.stop(policy: TeardownPolicy(quiesceMilliseconds: 5))
        #expect(report.failures.words == "vCPU 1 did not leave KVM_RUN within 5 ms")
        #expect(report.remaining == .zero)
    }

    @Test func `a kernel that may lack the call is not asked while a vCPU is inside, since it would wait for it`()
        throws
    {
        let bench = TestBench(Self.traits(.unannounced))
        let domain = try Self.makeDomain(bench)
        #expect(domain.gate.enter(domain.vcpus[1]) {})
        let report = try domain.stop(policy: TeardownPolicy(quiesceMilliseconds: 5))
        #expect(!bench.journal.names.contains("terminate"))
        #expect(report.path == .dynamicRemoval && report.phases[1].detail?.hasPrefix("not tried") == true, "\(report)")
        #expect(report.remaining == .zero)
    }
}
