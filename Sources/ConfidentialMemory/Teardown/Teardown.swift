internal import Glibc
public import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXStatusCodes
internal import Terms

/// Carries a teardown plan out on one VM. Nothing stops it half-way: what fails is reported and the rest goes on, so
/// that as much as possible comes back.
public struct Teardown {
    private let machine: any KVMVirtualMachine
    private let vcpus: [any KVMVirtualCPU]
    private let memory: GuestMemory?
    private let gate: VCPUGate
    private let policy: TeardownPolicy

    /// - Parameters:
    ///   - memory: nil for a VM that has none yet.
    ///   - gate: where the threads that run the vCPUs register.
    public init(
        machine: any KVMVirtualMachine, vcpus: [any KVMVirtualCPU], memory: GuestMemory?, gate: VCPUGate,
        policy: TeardownPolicy = TeardownPolicy()
    ) {
        self.machine = machine
        self.vcpus = vcpus
        self.memory = memory
        self.gate = gate
        self.policy = policy
    }

    /// What there is to tear down.
    /// - Parameter readsResidency: whether cachestat(2) is asked; it takes about 12 ms a resident GiB and thread.
    public func facts(terminate: TerminateSupport, readsResidency: Bool = true) -> TeardownFacts {
        TeardownFacts(
            terminate: terminate, vcpus: vcpus.count,
            shards: shardFacts(readsResidency: readsResidency), cpus: HostCPUs.online)
    }

    private func shardFacts(readsResidency: Bool) -> [TeardownFacts.Shard] {
        let shards = memory?.shards ?? []
        let facts = Mutex(shards.map { TeardownFacts.Shard(size: $0.range.size) })
        guard readsResidency else { return facts.withLock { $0 } }
        let next = Atomic(0)
        let chunk = policy.chunk
        inParallel(threads: min(HostCPUs.online, shards.count), name: "residency") {
            while true {
                let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard index < shards.count else { return }
                guard let count = try? shards[index].count(chunk: chunk) else { continue }
                facts.withLock {
                    $0[index].resident = count.resident
                    $0[index].full = count.full
                }
            }
        }
        return facts.withLock { $0 }
    }

    /// Runs a plan that was made from this teardown's own facts. Blocks until everything is closed.
    /// - Parameter progress: called from the threads that release, one at a time.
    public func run(
        _ plan: TeardownPlan, progress: @escaping @Sendable (TeardownProgress) -> Void = { _ in }
    ) -> TeardownReport {
        finish(plan, after: begin(plan, progress: progress), progress: progress)
    }

    /// The first half: the TD runs no more and, where the kernel can, its key id is released. No memory is touched.
    public func begin(
        _ plan: TeardownPlan, progress: @escaping @Sendable (TeardownProgress) -> Void = { _ in }
    ) -> TeardownReport {
        var report = TeardownReport(path: .dynamicRemoval)
        let total = plan.resident ?? .zero
        for step in plan.steps {
            switch step {
            case .quiesce:
                progress(TeardownProgress(phase: .quiesce, done: .zero, total: total))
                measured(&report, quiesce)
            case .terminate(let mayBeAbsent):
                progress(TeardownProgress(phase: .terminate, done: .zero, total: total))
                measured(&report) { terminate(&$0, mayBeAbsent: mayBeAbsent) }
            case .release, .close: break
            }
        }
        return report
    }

    /// The second half: memory is given back and everything is closed. Blocks until then. Where a page cannot be taken from
    /// the TD, what is left stays as it is and open (`TeardownReport.isWithheld`).
    /// - Parameters:
    ///   - first: what `begin` reported.
    ///   - pace: may be changed while this runs.
    ///   - emulatedFailure: the first page that an emulated kernel could not take from the TD.
    public func finish(
        _ plan: TeardownPlan, after first: TeardownReport, pace: ReleasePace = ReleasePace(),
        emulatedFailure: @escaping @Sendable () -> RemovalFailure? = { nil },
        progress: @escaping @Sendable (TeardownProgress) -> Void = { _ in }
    ) -> TeardownReport {
        var report = first
        let total = plan.resident ?? .zero
        let watch = RemovalWatch(machine, emulated: emulatedFailure)
        for step in plan.steps {
            switch step {
            case .quiesce, .terminate: break
            case .release(_, let threads, let chunk):
                progress(TeardownProgress(phase: .release, done: .zero, total: total))
                measured(&report) { report in
                    release(&report, plan, threads: threads, chunk: chunk, pace: pace, watch, progress)
                }
            case .close where report.isWithheld: break
            case .close:
                progress(TeardownProgress(phase: .close, done: report.released, total: total))
                measured(&report) { _ in close() }
            }
        }
        return report
    }

    private func measured(_ report: inout TeardownReport, _ step: (inout TeardownReport) -> TeardownPhase) {
        let start = MonotonicInstant.now
        var phase = step(&report)
        phase.milliseconds = MonotonicInstant.now.milliseconds(since: start)
        report.phases.append(phase)
    }

    private func quiesce(_ report: inout TeardownReport) -> TeardownPhase {
        var phase = TeardownPhase(name: .quiesce, milliseconds: 0, bytes: .zero, calls: 0)
        let stuck = gate.close(vcpus: vcpus, milliseconds: policy.quiesceMilliseconds)
        if !stuck.isEmpty {
            let text = "vCPU \(stuck.map { String($0) }.joined(separator: ", ")) did not leave KVM_RUN within "
            let failure = EndFailure(.vcpuStuck, text + "\(policy.quiesceMilliseconds) ms")
            report.failures.note(failure)
            phase.detail = failure.text
        }
        return phase
    }

    private func terminate(_ report: inout TeardownReport, mayBeAbsent: Bool) -> TeardownPhase {
        var phase = TeardownPhase(name: .terminate, milliseconds: 0, bytes: .zero, calls: 0)
        // A kernel that has the call tries each vCPU's lock; one that has not waits for them before it refuses.
        if mayBeAbsent, !gate.inside.isEmpty {
            phase.detail = "not tried: a kernel without KVM_TDX_TERMINATE_VM would wait for the vCPU"
            return phase
        }
        while true {
            phase.calls += 1
            do {
                try machine.tdxTerminate()
                report.path = .terminateFirst
                if phase.calls > 1 { phase.detail = "EBUSY \(phase.calls - 1) times: a vCPU's lock was held" }
                return phase
            } catch {
                let isAbsent: Bool = [Errno.invalidArgument, .inappropriateIOCTLForDevice, .notSupported].contains(
                    error.errno)
                if error.errno == .resourceBusy, phase.calls < policy.terminateAttempts {
                    usleep(10_000)
                    continue
                }
                if isAbsent, mayBeAbsent {
                    phase.detail = "this kernel has no KVM_TDX_TERMINATE_VM (\(error.errno.name))"
                } else {
                    phase.detail = "\(error), after \(phase.calls) calls"
                    // A TD that is busy lives on, and every page can be taken from it.
                    let isBusy = error.errno == .resourceBusy
                    report.failures.note(
                        EndFailure(
                            isBusy ? .terminateBusy : .terminateRefused, status: error.status?.hexadecimal,
                            (isBusy ? "not terminated, and ended page by page: " : "terminate: ") + "\(error)"))
                }
                return phase
            }
        }
    }

    private func release(
        _ report: inout TeardownReport, _ plan: TeardownPlan, threads: Int, chunk: ByteCount, pace: ReleasePace,
        _ watch: RemovalWatch, _ progress: @escaping @Sendable (TeardownProgress) -> Void
    ) -> TeardownPhase {
        let total = plan.resident ?? .zero
        let work = zip(memory?.shards ?? [], plan.facts.shards).map { ReleaseWork.Item(shard: $0, full: $1.full) }
        let release = ReleaseWork(work, chunk: chunk, pace: pace, watch: watch) { done in
            progress(TeardownProgress(phase: .release, done: done, total: total))
        }
        release.run(threads: threads)
        let outcome = release.outcome
        report.released += outcome.released
        report.remaining = outcome.remaining
        report.failures.note(outcome.failures)
        return TeardownPhase(
            name: .release, milliseconds: 0, bytes: outcome.released, calls: outcome.calls,
            detail: "\(counted(memory?.shards.count ?? 0, "shard")), \(counted(threads, "thread"))"
                + (pace.bytesPerSecond.map { ", at most \(ByteCount($0)) a second" } ?? ""))
    }

    private func close() -> TeardownPhase {
        var phase = TeardownPhase(name: .close, milliseconds: 0, bytes: .zero, calls: 0)
        if let memory {
            memory.close()
            phase.calls += memory.shards.count * (memory.sides == .apart ? 2 : 1)
        }
        for vcpu in vcpus { vcpu.close() }
        machine.close()
        phase.calls += vcpus.count + 1
        return phase
    }
}
