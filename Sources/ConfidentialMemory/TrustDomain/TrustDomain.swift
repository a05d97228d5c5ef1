internal import FirmwareImage
internal import Glibc
public import KVM
public import LinuxSystem
public import MemoryUnits
internal import Synchronization

/// How far the making of a TD has come.
public struct BuildProgress: Hashable, Sendable {
    public enum Phase: String, Hashable, Sendable, CaseIterable {
        case create
        case vcpus
        case memory
        /// Only where the configuration asks for it.
        case allocate
        case load
        case finalize
        /// Only where the configuration asks for it.
        case prefault
    }

    public var phase: Phase
    public var done: ByteCount
    /// 0 in phases that no bytes belong to.
    public var total: ByteCount
}

/// What a TD is at one moment.
public struct TrustDomainDescription: Hashable, Sendable {
    public var state: TrustDomainState
    /// RAM, without the firmware's flash.
    public var memory: ByteCount
    /// RAM and firmware by state.
    public var pages: PageStateCounts
    /// Nil where cachestat(2) failed or memory is being given back.
    public var resident: Residency?
    public var vcpus: Int
    public var measurement: MeasurementRegister
}

/// A backing file as others may have it.
public struct BackingDescriptor: ~Copyable {
    public let side: MemorySide
    public let range: GuestPhysicalRange
    public let inode: UInt64
    public let descriptor: OwnedDescriptor
}

/// One trust domain, from its finalization to its end. Calls may come from several threads and may block.
public final class TrustDomain: Sendable {
    public let memory: GuestMemory
    public let vcpus: [any KVMVirtualCPU]
    /// Where threads that run the vCPUs register.
    public let gate = VCPUGate()
    /// MRTD, computed from what was loaded.
    public let measurement: MeasurementRegister
    let machine: any KVMVirtualMachine
    private let ramSize: ByteCount
    private let terminate: TerminateSupport
    private let lifecycle = Mutex(TrustDomainLifecycle())

    /// Creates, loads and finalizes a TD.
    /// - Parameters:
    ///   - system: the kernel, or what stands in for it.
    ///   - host: where the shared side's files come from.
    ///   - progress: called from this thread.
    /// - Throws: what was refused. Every descriptor, mapping, page and key id of the attempt is gone then.
    public init(
        _ configuration: TrustDomainConfiguration, system: any KVMSystem, host: any MemoryHost = LinuxMemoryHost(),
        progress: (BuildProgress) -> Void = { _ in }
    ) throws(TrustDomainError) {
        var product: TrustDomainBuilder.Product?
        var failure: TrustDomainError?
        withoutActuallyEscaping(progress) { progress in
            do throws(TrustDomainError) {
                product = try TrustDomainBuilder(configuration, system: system, host: host, progress: progress).build()
            } catch {
                failure = error
            }
        }
        guard let product else { throw failure! }
        machine = product.machine
        vcpus = product.vcpus
        memory = product.memory
        measurement = product.measurement
        terminate = product.terminate
        ramSize = configuration.layout.memory
    }

    public var state: TrustDomainState { lifecycle.withLock { $0.state } }

    public func describe() -> TrustDomainDescription {
        let state = state
        return TrustDomainDescription(
            state: state, memory: ramSize, pages: memory.counts(),
            resident: state == .runnable || state == .halted || state == .withheld ? try? memory.residency() : nil,
            vcpus: vcpus.count,
            measurement: measurement)
    }

    /// Moves a range to one side; see `GuestMemory.convert`. A stop cancels it at the next chunk.
    public func convert(
        _ range: GuestPhysicalRange, to side: MemorySide, isCancelled: () -> Bool = { false },
        progress: (ConversionProgress) -> Void = { _ in }
    ) throws(TrustDomainError) -> ConversionResult {
        try lifecycle.withLock { lifecycle throws(TrustDomainError) in try lifecycle.beginUse("convert") }
        defer { lifecycle.withLock { _ = $0.endUse() } }
        do {
            return try memory.convert(
                range, to: side, isCancelled: { isCancelled() || lifecycle.withLock { $0.isStopping } },
                progress: progress)
        } catch {
            throw TrustDomainError(error)
        }
    }

    /// As `convert`, for a thread that must not wait; nil for what takes longer: nothing was changed then.
    public func convertAtOnce(
        _ range: GuestPhysicalRange, to side: MemorySide
    ) throws(TrustDomainError) -> ConversionResult? {
        try lifecycle.withLock { lifecycle throws(TrustDomainError) in try lifecycle.beginUse("convert") }
        defer { lifecycle.withLock { _ = $0.endUse() } }
        do {
            return try memory.convertAtOnce(range, to: side) { lifecycle.withLock { $0.isStopping } }
        } catch {
            throw TrustDomainError(error)
        }
    }

    /// As `convert`, for what a vCPU asks for: in 2 MiB chunks, merged with requests that wait beside it.
    public func convertForGuest(
        _ range: GuestPhysicalRange, to side: MemorySide
    ) throws(TrustDomainError) -> ConversionResult {
        try lifecycle.withLock { lifecycle throws(TrustDomainError) in try lifecycle.beginUse("convert") }
        defer { lifecycle.withLock { _ = $0.endUse() } }
        do {
            return try memory.convertMerging(range, to: side) { lifecycle.withLock { $0.isStopping } }
        } catch {
            throw TrustDomainError(error)
        }
    }

    /// Finds memory that is resident on both sides and, if asked, frees the side that the guest cannot reach.
    public func verify(reclaiming: Bool = false) throws(TrustDomainError) -> MemoryVerification {
        try lifecycle.withLock { lifecycle throws(TrustDomainError) in try lifecycle.beginUse("verify") }
        defer { lifecycle.withLock { _ = $0.endUse() } }
        do {
            return try reclaiming ? memory.reclaim() : memory.verify()
        } catch {
            throw TrustDomainError(error)
        }
    }

    /// The memory's runs by state, in order; holes are left out.
    public func runs() -> [PageRun] { memory.runs() }

    /// Hands over a duplicate of every backing file, shard by shard, private before shared. Whoever holds one keeps the
    /// memory and, on hardware, the VM and its key id.
    public func forEachBackingFile(
        _ body: (consuming BackingDescriptor) -> Void
    ) throws(TrustDomainError) {
        try lifecycle.withLock { lifecycle throws(TrustDomainError) in
            try lifecycle.beginUse("get backing", evenHalted: true)
        }
        defer { lifecycle.withLock { _ = $0.endUse() } }
        do {
            for shard in memory.shards {
                body(
                    BackingDescriptor(
                        side: .private, range: shard.range, inode: shard.file.inode,
                        descriptor: try shard.file.duplicateDescriptor()))
                guard let sharedFile = shard.sharedFile else { continue }
                body(
                    BackingDescriptor(
                        side: .shared, range: shard.range, inode: sharedFile.inode,
                        descriptor: try sharedFile.duplicateDescriptor()))
            }
        } catch {
            throw .refused(error)
        }
    }

    /// A descriptor of the VM for this process's last will; see `KVMVirtualMachine`. It must be closed before `release`, or
    /// the VM stays.
    public func retainedMachine() throws(TrustDomainError) -> RetainedDescriptor? {
        do {
            return try machine.retainedDescriptor()
        } catch {
            throw .refused(error)
        }
    }

    /// Whether the kernel announced KVM_TDX_TERMINATE_VM when this TD was made.
    public var terminateSupport: TerminateSupport { terminate }

    /// What `stop` would do now.
    public func teardownPlan(
        policy: TeardownPolicy = TeardownPolicy()
    ) throws(TrustDomainError) -> TeardownPlan {
        try plan(teardown(policy), policy)
    }

    /// Ends the TD: quiesce, terminate, release, close. Conversions under way end at their next chunk first.
    /// - Parameter progress: called from the threads that release, one at a time.
    /// - Throws: `.wrongState` for a second stop, `.teardown` for a policy that this kernel cannot serve; the TD is as
    ///   before then. What fails later is in the report.
    public func stop(
        policy: TeardownPolicy = TeardownPolicy(),
        progress: @escaping @Sendable (TeardownProgress) -> Void = { _ in }
    ) throws(TrustDomainError) -> TeardownReport {
        try release(after: try halt(policy: policy, progress: progress), policy: policy, progress: progress)
    }

    /// The first half of `stop`: the TD runs no more and, where the kernel can, is terminated. Its memory stays as it is
    /// until `release`.
    /// - Throws: as `stop`.
    public func halt(
        policy: TeardownPolicy = TeardownPolicy(),
        progress: @escaping @Sendable (TeardownProgress) -> Void = { _ in }
    ) throws(TrustDomainError) -> TeardownReport {
        let teardown = teardown(policy)
        // Refuse before anything changes.
        let plan = try plan(teardown, policy, readsResidency: false)
        if try lifecycle.withLock({ lifecycle throws(TrustDomainError) in try lifecycle.stop() }) == .waitForUses {
            awaitUses()
        }
        let report = teardown.begin(plan, progress: progress)
        lifecycle.withLock { $0.halted() }
        return report
    }

    /// The second half of `stop`. Blocks until everything is closed, or a page could not be taken from the TD: its memory is
    /// withheld then (`TeardownReport.isWithheld`).
    /// - Parameters:
    ///   - first: what `halt` reported.
    ///   - policy: its chunk counts; the order was decided by `halt`.
    ///   - pace: may be changed while this runs.
    ///   - emulatedFailure: the first page that an emulated kernel could not take from the TD.
    /// - Throws: `.wrongState` unless the TD is halted.
    public func release(
        after first: TeardownReport, policy: TeardownPolicy = TeardownPolicy(), pace: ReleasePace = ReleasePace(),
        emulatedFailure: @escaping @Sendable () -> RemovalFailure? = { nil },
        progress: @escaping @Sendable (TeardownProgress) -> Void = { _ in }
    ) throws(TrustDomainError) -> TeardownReport {
        let teardown = teardown(policy)
        try lifecycle.withLock { lifecycle throws(TrustDomainError) in try lifecycle.release() }
        awaitUses()
        // Nothing is converted any more: what is counted now is what is given back.
        let report = teardown.finish(
            try plan(teardown, policy), after: first, pace: pace, emulatedFailure: emulatedFailure, progress: progress)
        lifecycle.withLock { report.isWithheld ? $0.withheld() : $0.released() }
        return report
    }

    private func awaitUses() {
        while lifecycle.withLock({ $0.uses > 0 }) { usleep(500) }
    }

    private func teardown(_ policy: TeardownPolicy) -> Teardown {
        Teardown(machine: machine, vcpus: vcpus, memory: memory, gate: gate, policy: policy)
    }

    private func plan(
        _ teardown: Teardown, _ policy: TeardownPolicy, readsResidency: Bool = true
    ) throws(TrustDomainError) -> TeardownPlan {
        do {
            return try TeardownPlan(
                teardown.facts(terminate: terminate, readsResidency: readsResidency), policy: policy)
        } catch {
            throw .teardown(error)
        }
    }
}
