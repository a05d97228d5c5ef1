internal import ConfidentialMemory
internal import ControlInterface
internal import FirmwareImage
internal import Glibc
internal import KVM
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXEmulator
internal import TDXStatusCodes

/// The one TD of this process, from nothing to its end. The methods that begin something decide at once; those that do
/// it block, and belong on worker threads.
final class Holder: Sendable {
    private struct State {
        var lifecycle = HolderLifecycle()
        var order: BuildOrder?
        var createdAt = ""
        var built: Built?
        /// What was reported of a TD whose memory is held.
        var halted: TeardownReport?
        /// What was answered of a TD that a page could not be taken from.
        var withheld: HolderInterface.Stop.Reply?
        /// How far the end has come.
        var ending: Progress?
    }

    /// A TD that is there.
    private struct Built: Sendable {
        var domain: ConfidentialMemory.TrustDomain
        var system: HostedSystem
        var mrtd: String
        var keyID: UInt16?
        /// Whether the threads that allocate its private memory have its NUMA policy.
        var threadsArePlaced: Bool

        /// Nil where nothing was said of NUMA nodes.
        var placement: NUMAPlacement? {
            domain.memory.placement.map { NUMAPlacement($0, threadsArePlaced: threadsArePlaced) }
        }
    }

    private let host: BackendHost
    private let policy: TeardownPolicy
    /// Nil where this process's death has nothing to see to.
    private let will: LastWill?
    /// Where what came of the end is written down.
    private let record: EndRecord
    private let log: Logger
    private let state = Mutex(State())
    /// Runs a vCPU that never leaves, for a trial.
    private let stuck = Mutex<SystemThread?>(nil)
    private let pace = ReleasePace()
    /// Writes to the journal what a thread that converts must not wait for.
    private let reporter: SerialWorker

    init(
        host: BackendHost, policy: TeardownPolicy, will: LastWill?, record: EndRecord, log: Logger,
        reporter: SerialWorker
    ) {
        self.host = host
        self.policy = policy
        self.will = will
        self.record = record
        self.log = log
        self.reporter = reporter
    }

    func removeEmptyRecord() { record.removeIfEmpty() }

    /// Nobody has given this process work, or the work has failed.
    var mayExitIdle: Bool { state.withLock { $0.lifecycle.mayExitIdle } }

    // MARK: Build

    /// - Throws: `.wrongState` unless this holder is empty.
    func beginBuild(_ order: BuildOrder) throws(ControlError) {
        try changing(named: order.name) { (state: inout State) throws(OperationRefused) in
            try state.lifecycle.build()
            state.order = order
            state.createdAt = WallTime.now.rfc3339
        }
    }

    /// Makes, loads and finalizes the TD that `beginBuild` was told of. Whatever fails, nothing of the TD is left.
    func build(
        _ order: BuildOrder, image: RetainedDescriptor?, progress: @escaping @Sendable (Progress) -> Void
    ) throws(ControlError) -> HolderInterface.Description {
        do throws(ControlError) {
            let start = MonotonicInstant.now
            let built = try make(order, image: image, progress: progress)
            armWill(for: built.domain)
            if host.keepsVCPU { keepVCPU(of: built.domain) }
            state.withLock { state in
                state.built = built
                state.lifecycle.built()
            }
            log.info(
                "TD is runnable",
                metadata: [
                    "backend": "\(host.backend.rawValue)", "mrtd": "\(built.mrtd)",
                    "milliseconds": "\(MonotonicInstant.now.milliseconds(since: start))",
                ])
            return try describe()
        } catch {
            log.error("the TD could not be built", metadata: ["reason": "\(error)"])
            state.withLock { $0.lifecycle.buildFailed("\(error)") }
            throw error
        }
    }

    private func make(
        _ order: BuildOrder, image: RetainedDescriptor?, progress: @escaping @Sendable (Progress) -> Void
    ) throws(ControlError) -> Built {
        let (layout, plan) = try Self.plan(order, image: image)
        let system = try host.makeSystem(keyID: order.keyID)
        var configuration = TrustDomainConfiguration(
            name: "tdxd-\(order.name)", layout: layout, plan: plan, vcpus: order.vcpus, mrConfigID: order.mrConfigID,
            mrOwner: order.mrOwner, mrOwnerConfig: order.mrOwnerConfig)
        configuration.isPreallocated = order.isPreallocated
        configuration.isPrefaulted = order.isPrefaulted
        configuration.shards = Self.shardPolicy(regions: layout.regions.count)
        configuration.observer = observer(order)
        configuration.placement = order.numa.map { MemoryPlacement($0) }
        // This thread allocates all private memory, or starts those that do, as long as this process lives.
        let threadsArePlaced = configuration.placement?.takeOver() ?? false
        let domain: ConfidentialMemory.TrustDomain
        do {
            domain = try ConfidentialMemory.TrustDomain(
                configuration, system: system,
                progress: {
                    progress(
                        Progress(
                            phase: $0.phase.rawValue, doneBytes: $0.done.rawValue, totalBytes: $0.total.rawValue))
                })
        } catch {
            throw ControlError(error, name: order.name)
        }
        let built = Built(
            domain: domain, system: system, mrtd: hexadecimal(domain.measurement.bytes),
            keyID: system.inspection?.keyID?.rawValue, threadsArePlaced: threadsArePlaced)
        if let placement = built.placement, let reason = placement.reason {
            log.warning(
                "the NUMA policy is not in force for all memory",
                metadata: [
                    "private_applied": "\(placement.privateApplied)", "shared_applied": "\(placement.sharedApplied)",
                    "reason": "\(reason)",
                ])
        }
        let mrtd = built.mrtd
        if let inspection = system.inspection {
            // Two independent computations of one value: what was meant to be loaded, and what the module measured.
            let measured = inspection.measurement.map { hexadecimal($0) }
            guard measured == mrtd else {
                _ = try? domain.stop(policy: policy)
                throw .holderFailed(
                    name: order.name,
                    reason: "MRTD by the load plan is \(mrtd), the emulated module measured \(measured ?? "nothing")")
            }
        }
        return built
    }

    /// Remembers the TD's conversions, and has the journal told of what somebody should know.
    private func observer(_ order: BuildOrder) -> ConversionObserver {
        var log = log
        log[metadataKey: "td"] = "\(order.name)"
        log[metadataKey: "id"] = "\(order.id)"
        let journal = ConversionJournal(log: log)
        return ConversionObserver(storm: order.storm) { [reporter] event, observer in
            reporter.run { journal.note(event, observer) }
        }
    }

    /// For a trial of an end that a vCPU holds up: the emulated kernel never lets it out again.
    private func keepVCPU(of domain: ConfidentialMemory.TrustDomain) {
        guard let vcpu = domain.vcpus.first else { return }
        do throws(LinuxError) {
            try Signals.makeInterrupting(.kick)
            let thread = try SystemThread(name: "vcpu-\(vcpu.id)") { _ = VCPULoop.run(vcpu, of: domain) { _ in false } }
            stuck.withLock { $0 = thread }
            log.warning("a vCPU runs and will not be driven out, as asked for", metadata: ["vcpu": "\(vcpu.id)"])
        } catch {
            log.error("no vCPU runs that could be in the way", metadata: ["reason": "\(error)"])
        }
    }

    private func armWill(for domain: ConfidentialMemory.TrustDomain) {
        guard let will else { return }
        do {
            if let machine = try domain.retainedMachine() { try will.arm(machine) }
            if will.hasEnded { log.warning("the last will has ended before it was needed") }
        } catch {
            log.warning("the last will is not armed", metadata: ["reason": "\(error)"])
            will.disarm()
        }
    }

    /// Whether this process's death is seen to, and how.
    private var lastWill: LastWillState? {
        guard let will, will.isArmed else { return nil }
        return will.order.isRehearsal ? .rehearsal : .armed
    }

    private static func plan(
        _ order: BuildOrder, image: RetainedDescriptor?
    ) throws(ControlError) -> (GuestMemoryLayout, LoadPlan) {
        guard let image else {
            do throws(FirmwareError) {
                return (try GuestMemoryLayout(memory: order.memory), .empty)
            } catch {
                throw .invalidField(
                    field: "memory_bytes", value: String(order.memory.rawValue), limit: withoutSentence(error.limit))
            }
        }
        let path = order.firmware ?? ""
        let bytes: [UInt8]
        do throws(FirmwareRefused) {
            bytes = try FirmwareDescriptor.read(image.descriptor, path: path)
        } catch {
            throw ControlError(error)
        }
        do throws(FirmwareError) {
            let image = try TDVFImage(bytes)
            let layout = try GuestMemoryLayout(memory: order.memory, firmware: image.size)
            return (layout, try LoadPlan(image: image, layout: layout))
        } catch {
            throw .firmwareRejected(path: path, reason: "\(error)")
        }
    }

    /// As many shards as help this host's CPUs, and no more than GetBacking can pass: one message carries 253
    /// descriptors, and a shard has two.
    static func shardPolicy(regions: Int) -> ShardPolicy {
        let most = UnixSocket.maximumDescriptors / 2 / max(regions, 1)
        let wanted = ShardPolicy.automatic(cpus: sysconf(Int32(_SC_NPROCESSORS_ONLN))).maximumPerRegion
        return ShardPolicy(maximumPerRegion: min(wanted, most))
    }

    // MARK: Looking

    func describe() throws(ControlError) -> HolderInterface.Description {
        let now = state.withLock { $0 }
        let domain = now.built?.domain.describe()
        let backend = host.backend
        return HolderInterface.Description(
            name: now.order?.name ?? "", id: now.order?.id ?? "", state: now.lifecycle.state,
            reason: now.lifecycle.reason, backend: backend, memoryBytes: now.order?.memory.rawValue ?? 0,
            privateBytes: domain?.pages[.private].bytes.rawValue ?? 0,
            sharedBytes: domain?.pages[.shared].bytes.rawValue ?? 0,
            convertingBytes: domain?.pages.converting.bytes.rawValue ?? 0,
            residentPrivateBytes: domain?.resident?.private.rawValue,
            residentSharedBytes: domain?.resident?.shared.rawValue, vcpus: now.order?.vcpus ?? 0,
            keyID: now.built?.keyID, pid: CurrentProcess.pid, mrtd: now.built?.mrtd, firmware: now.order?.firmware,
            createdAt: now.createdAt, ownerUID: now.order?.ownerUID ?? 0,
            ending: now.ending,
            numa: now.built?.placement, lastWill: lastWill)
    }

    func map() throws(ControlError) -> [MemoryRun] {
        try runnable("Map").domain.runs().map { MemoryRun($0) }
    }

    /// What changed behind `sequence`; nil when nothing did. The whole map without one, or where it lies too far behind.
    func mapChanges(since sequence: UInt64?) throws(ControlError) -> HolderInterface.MapChanges.Reply? {
        let memory = try runnable("MapChanges").domain.memory
        if let sequence, case .changes(let changes) = memory.changes(since: sequence) {
            let told = changes.prefix(MapFollowing.mostChanges)
            guard let last = told.last else { return nil }
            return .init(
                sequence: Int64(clamping: last.sequence), snapshot: false, runs: told.map { MemoryRun($0.run) })
        }
        let now = memory.numberedRuns()
        return .init(sequence: Int64(clamping: now.sequence), snapshot: true, runs: now.runs.map { MemoryRun($0) })
    }

    /// - Parameter last: how many are told one by one, 0 to 1,000.
    func conversions(last: Int) throws(ControlError) -> HolderInterface.Conversions.Reply {
        let observer = try runnable("Conversions").domain.memory.observer
        let clocks = ClockPair()
        return HolderInterface.Conversions.Reply(observer.report(last: last), clocks)
    }

    /// The backing files with a duplicate of each, in the same order.
    func backing() throws(ControlError) -> (files: [HolderInterface.BackingFile], descriptors: [RetainedDescriptor]) {
        let now = state.withLock { $0 }
        do throws(OperationRefused) { try now.lifecycle.useBacking("GetBacking") } catch {
            throw ControlError(error, name: now.order?.name ?? "")
        }
        guard let built = now.built else { preconditionFailure("backing without a TD") }
        var files: [HolderInterface.BackingFile] = []
        var descriptors: [RetainedDescriptor] = []
        var failure: LinuxError?
        do {
            try built.domain.forEachBackingFile { file in
                do throws(LinuxError) {
                    descriptors.append(try RetainedDescriptor(duplicating: file.descriptor.rawValue))
                } catch {
                    failure = failure ?? error
                }
                files.append(
                    HolderInterface.BackingFile(
                        kind: file.side == .private ? .private : .shared, gpa: file.range.start.rawValue,
                        bytes: file.range.size.rawValue, inode: file.inode))
            }
        } catch {
            throw ControlError(error, name: name)
        }
        if let failure { throw ControlError(failure) }
        return (files, descriptors)
    }

    /// Pages by state, to be read without asking.
    func figures() throws(ControlError) -> RetainedDescriptor {
        let memory = try runnable("GetFigures").domain.memory
        do throws(LinuxError) {
            return RetainedDescriptor(try memory.publishedCounts().duplicateDescriptor())
        } catch {
            throw ControlError(error)
        }
    }

    /// The ranges that are private or in transition at one moment, in a sealed file.
    func privateRanges() throws(ControlError) -> (sequence: UInt64, file: RetainedDescriptor) {
        let memory = try runnable("GetPrivateRanges").domain.memory
        do throws(LinuxError) {
            let ranges = try memory.writePrivateRanges()
            return (ranges.sequence, RetainedDescriptor(ranges.file))
        } catch {
            throw ControlError(error)
        }
    }

    // MARK: Convert

    /// - Parameters:
    ///   - isLeft: whether nobody wants it any more; asked before each chunk.
    ///   - progress: called after each chunk.
    func convert(
        _ request: HolderInterface.Convert.Parameters, isLeft: () -> Bool,
        progress: (HolderInterface.Convert.Reply) -> Void
    ) throws(ControlError) -> HolderInterface.Convert.Reply {
        let built = try runnable("Convert")
        let start = MonotonicInstant.now
        let range = try range(of: request)
        func reply(_ result: ConversionResult, _ step: Progress? = nil) -> HolderInterface.Convert.Reply {
            HolderInterface.Convert.Reply(result, since: start, step)
        }
        do {
            let result = try built.domain.convert(
                range, to: request.to == .private ? .private : .shared,
                // A Stop does not wait for the rest of a long conversion.
                isCancelled: { isLeft() || self.state.withLock { $0.lifecycle.state != .runnable } },
                progress: {
                    let step = Progress(
                        phase: "convert", doneBytes: $0.settled.rawValue, totalBytes: $0.total.rawValue)
                    progress(reply($0.result, step))
                })
            return reply(result)
        } catch {
            throw ControlError(error, name: name)
        }
    }

    /// As `convert`, on the event loop: nil for what might keep it; nothing was changed then.
    func convertAtOnce(
        _ request: HolderInterface.Convert.Parameters
    ) throws(ControlError) -> HolderInterface.Convert.Reply? {
        let built = try runnable("Convert")
        let start = MonotonicInstant.now
        let range = try range(of: request)
        do {
            let result = try built.domain.convertAtOnce(range, to: request.to == .private ? .private : .shared)
            return result.map { HolderInterface.Convert.Reply($0, since: start) }
        } catch {
            throw ControlError(error, name: name)
        }
    }

    private func range(
        of request: HolderInterface.Convert.Parameters
    ) throws(ControlError) -> GuestPhysicalRange {
        let size = ByteCount(request.bytes)
        guard let range = GuestPhysicalRange(validating: GuestPhysicalAddress(request.gpa), size: size) else {
            throw .invalidField(field: "bytes", value: String(request.bytes), limit: "gpa + bytes below 2^64")
        }
        return range
    }

    // MARK: Verify

    /// What the host pays for twice; with `reclaim`, what it did pay.
    func verify(reclaim: Bool) throws(ControlError) -> HolderInterface.Verify.Reply {
        let built = try runnable("Verify")
        let start = MonotonicInstant.now
        let found: MemoryVerification
        do throws(TrustDomainError) {
            found = try built.domain.verify(reclaiming: reclaim)
        } catch {
            throw ControlError(error, name: name)
        }
        return HolderInterface.Verify.Reply(
            checkedBytes: found.checked.rawValue,
            ranges: found.doubles.map {
                ControlInterface.DoubleResidency(
                    gpa: $0.range.start.rawValue, bytes: $0.range.size.rawValue,
                    wasted: $0.wasted == .private ? .private : .shared, wastedBytes: $0.bytes.rawValue)
            }, milliseconds: MonotonicInstant.now.milliseconds(since: start))
    }

    // MARK: Stop

    /// - Throws: `.wrongState` while a TD is being built and after the first Stop.
    ///   `.kernelRefused` for terminate-first on a kernel that does not announce it.
    func beginStop(_ order: TeardownPolicy.Order = .auto) throws(ControlError) {
        let built = state.withLock { $0.built }
        if order == .terminateFirst, let built { try Self.checkTerminates(built.domain) }
        try changing(named: name) { (state: inout State) throws(OperationRefused) in try state.lifecycle.stop() }
    }

    /// What Stop would do now. Blocks for about 20 ms a resident GiB.
    func planStop(_ order: TeardownPolicy.Order) throws(ControlError) -> HolderInterface.PlanStop.Reply {
        let domain = try runnable("PlanStop").domain
        if order == .terminateFirst { try Self.checkTerminates(domain) }
        do throws(TrustDomainError) {
            var reply = HolderInterface.PlanStop.Reply(try domain.teardownPlan(policy: ordered(order)))
            reply.lastWill = lastWill
            return reply
        } catch {
            throw ControlError(error, name: name)
        }
    }

    private static func checkTerminates(_ domain: ConfidentialMemory.TrustDomain) throws(ControlError) {
        guard domain.terminateSupport != .present else { return }
        throw .kernelRefused(
            operation: "KVM_TDX_TERMINATE_VM", errno: Errno.notSupported.rawValue, errnoName: Errno.notSupported.name,
            tdxStatus: nil,
            detail: "the kernel does not announce it and the policy is terminate-first; nothing was changed")
    }

    private func ordered(_ order: TeardownPolicy.Order) -> TeardownPolicy {
        var policy = policy
        policy.order = order
        return policy
    }

    /// Ends what `beginStop` was told of. Never fails: what went wrong is in the reply.
    /// - Parameter holds: the memory stays until `reclaim`.
    /// - Returns: the reply, and whether anything is held.
    func stop(
        _ order: TeardownPolicy.Order = .auto, holds: Bool = false, progress: @escaping @Sendable (Progress) -> Void
    ) -> (reply: HolderInterface.Stop.Reply, isHeld: Bool) {
        let built = state.withLock { $0.built }
        guard let built else {
            state.withLock { $0.lifecycle.stopped(failure: nil) }
            log.info("stopped without a TD")
            return (.init(phases: [], proofs: [], path: "none", releasedBytes: 0, failure: nil), false)
        }
        let policy = ordered(order)
        let report: TeardownReport
        do throws(TrustDomainError) {
            report = try built.domain.halt(policy: policy, progress: heard(progress))
        } catch {
            let reply = HolderInterface.Stop.Reply(
                phases: [], proofs: HolderProofs.notBegun(error), path: "none", releasedBytes: 0, failure: "\(error)")
            return (ended(reply), false)
        }
        // The TD was terminated, or is not to be; and the will's own descriptor would keep the VM.
        will?.disarm()
        guard holds else { return release(built, report, policy, progress) }
        log.info("TD runs no more; its memory is held", metadata: ["path": "\(report.path.rawValue)"])
        let reply = HolderInterface.Stop.Reply(
            phases: report.phases.map { ControlInterface.TeardownPhase($0) }, proofs: [], path: report.path.rawValue,
            releasedBytes: 0, failure: report.failure)
        state.withLock { state in
            state.halted = report
            state.lifecycle.halted()
        }
        return (reply, true)
    }

    /// - Throws: `.wrongState` unless memory is held.
    func beginReclaim() throws(ControlError) {
        try changing(named: name) { (state: inout State) throws(OperationRefused) in try state.lifecycle.reclaim() }
    }

    /// Gives back what a `stop` has held. Never fails: what went wrong is in the reply. Of a TD that a page could not be taken
    /// from, it says once more what it has said.
    /// - Parameter chunk: nil for this holder's own.
    /// - Returns: the reply, and whether anything is held still.
    func reclaim(
        chunk: ByteCount?, progress: @escaping @Sendable (Progress) -> Void
    ) -> (reply: HolderInterface.Stop.Reply, isHeld: Bool) {
        if let known = state.withLock({ $0.withheld }) {
            state.withLock { $0.lifecycle.halted() }
            return (known, true)
        }
        guard
            let (built, report) = state.withLock({ state in state.built.flatMap { b in state.halted.map { (b, $0) } } })
        else { preconditionFailure("halted without a TD") }
        var policy = policy
        if let chunk { policy.chunk = chunk }
        return release(built, report, policy, progress)
    }

    /// Of what is being given back, and of what will be.
    func setPace(_ bytesPerSecond: UInt64?) { pace.set(bytesPerSecond) }

    private func release(
        _ built: Built, _ first: TeardownReport, _ policy: TeardownPolicy,
        _ progress: @escaping @Sendable (Progress) -> Void
    ) -> (reply: HolderInterface.Stop.Reply, isHeld: Bool) {
        let files = built.domain.memory.shardRanges.count
        do throws(TrustDomainError) {
            var report = try built.domain.release(
                after: first, policy: policy, pace: pace, emulatedFailure: { built.system.removalFailure },
                progress: heard(progress))
            // Closing says nothing; an emulated kernel does.
            if report.failure == nil, let bug = built.system.removalFailure {
                report.failure = "close: \(bug.reason)"
                report.status = bug.status
            }
            let reply = HolderInterface.Stop.Reply(
                phases: report.phases.map { ControlInterface.TeardownPhase($0) },
                proofs: HolderProofs.make(report, shards: files, inspection: built.system.inspection),
                path: report.path.rawValue, releasedBytes: report.released.rawValue, failure: report.failure,
                tdxStatus: report.status?.hexadecimal, withheld: report.isWithheld ? true : nil)
            tell(report)
            record.write(reply)
            guard report.isWithheld else { return (ended(reply), false) }
            state.withLock { state in
                state.withheld = reply
                state.lifecycle.halted()
            }
            return (reply, true)
        } catch {
            preconditionFailure("a halted TD is not released: \(error)")
        }
    }

    /// Loud, because tdxd may not be there to hear it.
    private func tell(_ report: TeardownReport) {
        guard let failure = report.failure, report.isWithheld || report.status != nil else { return }
        var metadata: Logger.Metadata = [
            "td": "\(name)", "reason": "\(failure)", "emulated": "\(host.backend.isEmulated)",
            "kept_bytes": "\(report.isWithheld ? report.remaining.map { "\($0.rawValue)" } ?? "unknown" : "0")",
        ]
        if let status = report.status {
            metadata["tdx_status"] = "\(status.hexadecimal)"
            metadata["tdx_status_name"] = "\(status.name ?? "unknown")"
        }
        log.critical("a page could not be taken from a TD", metadata: metadata)
    }

    /// Its TD's memory is kept from everybody, and this process is what keeps it.
    var isWithheld: Bool { state.withLock { $0.withheld != nil } }

    private func ended(_ reply: HolderInterface.Stop.Reply) -> HolderInterface.Stop.Reply {
        state.withLock { $0.lifecycle.stopped(failure: reply.failure) }
        log.info(
            "TD has ended", metadata: ["path": "\(reply.path ?? "")", "failure": "\(reply.failure ?? "none")"])
        return reply
    }

    /// Passes on how far the end has come, and keeps it for Describe.
    private func heard(_ progress: @escaping @Sendable (Progress) -> Void) -> @Sendable (TeardownProgress) -> Void {
        { [self] step in
            let step = Progress(
                phase: step.phase.rawValue, doneBytes: step.done.rawValue, totalBytes: step.total.rawValue,
                detail: step.detail)
            let isNew = state.withLock { state in
                defer { state.ending = step }
                return state.ending?.phase != step.phase
            }
            progress(step)
            if isNew, host.pause?.rawValue == step.phase {
                log.warning("stopping itself, as asked for", metadata: ["phase": "\(step.phase)"])
                CurrentProcess.stop()
            }
        }
    }

    /// Runs `body` when everything of the TD that the journal is to be told has been told.
    func whenReported(_ body: @escaping @Sendable () -> Void) { reporter.run(body) }

    // MARK: State

    private var name: String { state.withLock { $0.order?.name ?? "" } }

    private func runnable(_ operation: String) throws(ControlError) -> Built {
        let now = state.withLock { $0 }
        do throws(OperationRefused) { try now.lifecycle.use(operation) } catch {
            throw ControlError(error, name: now.order?.name ?? "")
        }
        guard let built = now.built else { preconditionFailure("runnable without a TD") }
        return built
    }

    private func changing(
        named name: String, _ change: (inout State) throws(OperationRefused) -> Void
    ) throws(ControlError) {
        let refusal: OperationRefused? = state.withLock { state in
            do throws(OperationRefused) {
                try change(&state)
                return nil
            } catch {
                return error
            }
        }
        if let refusal { throw ControlError(refusal, name: name) }
    }
}

extension HolderInterface.Convert.Reply {
    fileprivate init(_ result: ConversionResult, since start: MonotonicInstant, _ step: Progress? = nil) {
        self.init(
            changedBytes: result.changed.rawValue, discardedBytes: result.discarded.rawValue,
            milliseconds: MonotonicInstant.now.milliseconds(since: start), progress: step)
    }
}
