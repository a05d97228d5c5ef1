internal import ConfidentialMemory
internal import ControlInterface
internal import FirmwareImage
internal import Glibc
internal import KVM
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import Synchronization
internal import TDXEmulator

/// From nothing to a TD that runs.
extension Holder {
    /// - Throws: `.wrongState` unless this holder is empty.
    func beginBuild(_ order: HolderInterface.Build.Parameters) throws(ControlError) {
        try changing(named: order.name) { (state: inout State) throws(OperationRefused) in
            try state.lifecycle.build()
            state.order = order
            state.createdAt = WallTime.now.rfc3339
        }
    }

    /// Makes, loads and finalizes the TD that `beginBuild` was told of. Whatever fails, nothing of the TD is left.
    func build(
        _ order: HolderInterface.Build.Parameters, image: RetainedDescriptor?,
        progress: @escaping @Sendable (Progress) -> Void
    ) throws(ControlError) -> HolderInterface.Description {
        do throws(ControlError) {
            let start = MonotonicInstant.now
            let built = try make(order, image: image, progress: progress)
            armWill(for: built.domain)
            if host.backend.isEmulated, emulation.keepsVCPU { keepVCPU(of: built.domain) }
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
        _ order: HolderInterface.Build.Parameters, image: RetainedDescriptor?,
        progress: @escaping @Sendable (Progress) -> Void
    ) throws(ControlError) -> Built {
        let request = order.request
        let (layout, plan) = try Self.plan(request, image: image)
        let system = try host.makeSystem(keyID: KeyID(order.reservation.keyID), emulation: emulation)
        var configuration = TrustDomainConfiguration(
            name: "tdxd-\(request.name)", layout: layout, plan: plan, vcpus: request.vcpus.count,
            mrConfigID: request.mrconfigid?.bytes ?? TrustDomainConfiguration.noIdentity,
            mrOwner: request.mrowner?.bytes ?? TrustDomainConfiguration.noIdentity,
            mrOwnerConfig: request.mrownerconfig?.bytes ?? TrustDomainConfiguration.noIdentity)
        configuration.isPreallocated = request.preallocate ?? false
        configuration.isPrefaulted = request.prefault ?? false
        configuration.shards = Self.shardPolicy(
            regions: layout.regions.count, minimum: order.settings?.shardMinimumBytes?.bytes)
        configuration.observer = observer(order)
        configuration.placement = request.numa.map { MemoryPlacement($0) }
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
    private func observer(_ order: HolderInterface.Build.Parameters) -> ConversionObserver {
        var log = log
        log[metadataKey: "td"] = "\(order.name)"
        log[metadataKey: "id"] = "\(order.reservation.id)"
        let journal = ConversionJournal(log: log)
        return ConversionObserver(storm: order.settings?.storm.map { StormRule($0) } ?? StormRule()) {
            [reporter] event, observer in
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
    var lastWill: LastWillState? {
        guard let will, will.isArmed else { return nil }
        return will.order.isRehearsal ? .rehearsal : .armed
    }

    private static func plan(
        _ request: CreateRequest, image: RetainedDescriptor?
    ) throws(ControlError) -> (GuestMemoryLayout, LoadPlan) {
        guard let image else {
            do throws(FirmwareError) {
                return (try GuestMemoryLayout(memory: request.memoryBytes.bytes), .empty)
            } catch {
                throw .invalidField(
                    field: "memory_bytes", value: "\(request.memoryBytes)", limit: withoutSentence(error.limit))
            }
        }
        let path = request.firmware?.rawValue ?? ""
        let bytes: [UInt8]
        do throws(FirmwareRefused) {
            bytes = try FirmwareDescriptor.read(image.descriptor, path: path)
        } catch {
            throw ControlError(error)
        }
        do throws(FirmwareError) {
            let image = try TDVFImage(bytes)
            let layout = try GuestMemoryLayout(memory: request.memoryBytes.bytes, firmware: image.size)
            return (layout, try LoadPlan(image: image, layout: layout))
        } catch {
            throw .firmwareRejected(path: path, reason: "\(error)")
        }
    }

    /// As many shards as help this host's CPUs, and no more than GetBacking can pass: one message carries 253
    /// descriptors, and a shard has two.
    /// - Parameter minimum: no shard is smaller where its region is larger; nil for the standard.
    static func shardPolicy(regions: Int, minimum: ByteCount? = nil) -> ShardPolicy {
        let most = UnixSocket.maximumDescriptors / 2 / max(regions, 1)
        var policy = ShardPolicy.automatic(cpus: sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        policy.maximumPerRegion = min(policy.maximumPerRegion, most)
        if let minimum { policy.minimumSize = minimum }
        return policy
    }
}

extension HolderInterface.Build.Parameters {
    /// The TD's.
    var name: String { request.name.rawValue }
}

extension StormRule {
    init(_ rule: ConversionStormRule) {
        self.init(
            conversions: Int(rule.conversions.rawValue),
            milliseconds: UInt64(clamping: rule.windowMilliseconds.rawValue))
    }
}
