internal import FirmwareImage
internal import Glibc
internal import KVM
internal import MemoryUnits
internal import SystemPackage

/// Makes a TD, in the order that KVM demands (reference: kvm.md §1.5). What is made so far lives here, so that a failure
/// at any step can undo all of it.
struct TrustDomainBuilder: ~Copyable {
    private let configuration: TrustDomainConfiguration
    private let system: any KVMSystem
    private let host: any MemoryHost
    private let progress: (BuildProgress) -> Void

    private var machine: (any KVMVirtualMachine)?
    private var vcpus: [any KVMVirtualCPU] = []
    private var memory: GuestMemory?
    private var measurement = LaunchMeasurement()
    private var terminate = TerminateSupport.unknown

    init(
        _ configuration: TrustDomainConfiguration, system: any KVMSystem, host: any MemoryHost,
        progress: @escaping (BuildProgress) -> Void
    ) {
        self.configuration = configuration
        self.system = system
        self.host = host
        self.progress = progress
    }

    struct Product {
        var machine: any KVMVirtualMachine
        var vcpus: [any KVMVirtualCPU]
        var memory: GuestMemory
        var measurement: MeasurementRegister
        var terminate: TerminateSupport
    }

    /// Makes, loads and finalizes the TD, or undoes everything and throws.
    consuming func build() throws(TrustDomainError) -> Product {
        do {
            try validate()
            let machine = try createMachine()
            try createVCPUs(machine)
            let memory = try createMemory(machine)
            if configuration.isPreallocated { try preallocate(memory) }
            try load(memory)
            progress(BuildProgress(phase: .finalize, done: .zero, total: .zero))
            try refusing { () throws(KVMError) in try machine.tdxFinalize() }
            if configuration.isPrefaulted { try preFault(memory) }
            return Product(
                machine: machine, vcpus: vcpus, memory: memory, measurement: measurement.value, terminate: terminate)
        } catch {
            undo()
            throw error
        }
    }

    /// What was made is torn down like any TD: terminated first where the kernel can, then released and closed.
    private func undo() {
        guard let machine else { return }
        let teardown = Teardown(machine: machine, vcpus: vcpus, memory: memory, gate: VCPUGate())
        let facts = teardown.facts(terminate: terminate, readsResidency: false)
        if let plan = try? TeardownPlan(facts) { _ = teardown.run(plan) }
    }

    // MARK: Steps

    private func validate() throws(TrustDomainError) {
        let identities = [
            ("mrconfigid", configuration.mrConfigID), ("mrowner", configuration.mrOwner),
            ("mrownerconfig", configuration.mrOwnerConfig),
        ]
        for (field, bytes) in identities where bytes.count != MeasurementRegister.byteCount {
            throw .invalid(field: field, value: "\(bytes.count) bytes", limit: "48 bytes")
        }
        guard configuration.vcpus > 0 else {
            throw .invalid(field: "vcpus", value: "\(configuration.vcpus)", limit: "at least 1")
        }
        if let frequency = configuration.tscFrequency,
            !(100_000...10_000_000).contains(frequency) || !frequency.isMultiple(of: 25_000)
        {
            throw .invalid(
                field: "tsc_frequency", value: "\(frequency) kHz",
                limit: "a multiple of 25000 kHz, 100000 kHz to 10000000 kHz")
        }
        guard configuration.name.utf8.count <= 200 else {
            throw .invalid(
                field: "name", value: "\(configuration.name.utf8.count) bytes", limit: "at most 200 bytes")
        }
    }

    private mutating func createMachine() throws(TrustDomainError) -> any KVMVirtualMachine {
        progress(BuildProgress(phase: .create, done: .zero, total: .zero))
        let machine = try refusing { () throws(KVMError) in try system.createVirtualMachine(.tdx) }
        self.machine = machine
        if configuration.isPrefaulted { try requirePreFault(machine) }
        let (limit, hypercalls, capabilities) = try refusing { () throws(KVMError) in
            // TDs have no in-kernel IOAPIC; 24 routes are what a PC's IOAPIC has.
            try machine.enable(.splitIRQChip, [24])
            return (
                try machine.check(.maximumVCPUs), try machine.check(.exitHypercall), try machine.tdxCapabilities()
            )
        }
        guard configuration.vcpus <= limit else {
            throw .invalid(
                field: "vcpus", value: "\(configuration.vcpus)", limit: "at most \(limit) on this host")
        }
        let mapGPARange = 1 << 12
        if hypercalls & mapGPARange != 0 {
            try refusing { () throws(KVMError) in try machine.enable(.exitHypercall, [UInt64(mapGPARange)]) }
        }
        terminate = capabilities.supportedCommands & 1 != 0 ? .present : .unknown
        try initialize(machine, capabilities)
        return machine
    }

    /// Asked of the VM before it costs anything.
    private func requirePreFault(_ machine: any KVMVirtualMachine) throws(TrustDomainError) {
        let answer = try refusing { () throws(KVMError) in try machine.check(.preFaultMemory) }
        guard answer > 0 else {
            throw .refused(
                KVMError(
                    "KVM_PRE_FAULT_MEMORY", .notSupportedOnSocket,
                    detail: "KVM_CAP_PRE_FAULT_MEMORY is 0: this kernel cannot map a TD's memory ahead"))
        }
    }

    private func initialize(
        _ machine: any KVMVirtualMachine, _ capabilities: TDXCapabilities
    ) throws(TrustDomainError) {
        let attributes =
            configuration.attributes
            ?? (TrustDomainConfiguration.septVEDisable & capabilities.supportedAttributes)
        guard attributes & ~capabilities.supportedAttributes == 0 else {
            throw .invalid(
                field: "attributes", value: hexadecimal(attributes),
                limit: "within \(hexadecimal(capabilities.supportedAttributes)), which this host allows")
        }
        let xfam =
            configuration.xfam
            ?? (TrustDomainConfiguration.leastXFAM | TrustDomainConfiguration.avx & capabilities.supportedXFAM)
        guard xfam & ~capabilities.supportedXFAM == 0 else {
            throw .invalid(
                field: "xfam", value: hexadecimal(xfam),
                limit: "within \(hexadecimal(capabilities.supportedXFAM)), which this host allows")
        }
        try checkCPUID(capabilities.configurableCPUID)
        if let frequency = configuration.tscFrequency {
            try refusing { () throws(KVMError) in try machine.setTSCFrequency(kilohertz: frequency) }
        }
        do {
            try machine.tdxInitialize(
                TDXInitialization(
                    attributes: attributes, xfam: xfam, mrConfigID: configuration.mrConfigID,
                    mrOwner: configuration.mrOwner, mrOwnerConfig: configuration.mrOwnerConfig, cpuid: cpuid))
        } catch {
            // ENOSPC: no free key id. EBUSY: the misc control group's limit of them.
            throw error.errno == .noSpace || error.errno == .resourceBusy ? .noKeyAvailable(error) : .refused(error)
        }
    }

    /// What KVM_TDX_INIT_VM is given.
    private var cpuid: [CPUIDEntry] { configuration.cpuid ?? TrustDomainConfiguration.leastCPUID }

    /// The kernel's EINVAL does not name the leaf or bit that it refuses.
    private func checkCPUID(_ configurable: [CPUIDEntry]) throws(TrustDomainError) {
        for entry in cpuid {
            let name = "CPUID leaf \(hexadecimal(UInt64(entry.function))).\(entry.index)"
            guard let open = configurable.first(where: { $0.function == entry.function && $0.index == entry.index })
            else {
                throw .invalid(
                    field: "cpuid", value: name, limit: "one of the leaves that this host lets a TD configure")
            }
            for (register, (value, mask)) in [
                ("EAX", (entry.eax, open.eax)), ("EBX", (entry.ebx, open.ebx)), ("ECX", (entry.ecx, open.ecx)),
                ("EDX", (entry.edx, open.edx)),
            ] where value & ~mask != 0 {
                throw .invalid(
                    field: "cpuid", value: "\(name) \(register) \(hexadecimal(UInt64(value)))",
                    limit: "within \(hexadecimal(UInt64(mask))), which this host lets a TD configure")
            }
        }
    }

    /// What KVM_SET_CPUID2 is given: what the TD's vCPUs see, as far as the kernel reads it from the module, and what KVM
    /// needs. EIO means that the module does not report it; KVM's copy then holds what KVM looks at.
    private func cpuid(of vcpu: any KVMVirtualCPU) throws(KVMError) -> [CPUIDEntry] {
        let sizes = cpuid.first { $0.function == TrustDomainConfiguration.addressSizes }
        let width = sizes.map { $0.eax >> 16 & 0xFF } ?? 48
        let told: [CPUIDEntry]
        do throws(KVMError) {
            told = try vcpu.tdxCPUID()
        } catch {
            guard error.errno == .ioError else { throw error }
            told = []
        }
        return TrustDomainCPUID.ofVCPU(told: told, guestAddressBits: width)
    }

    private mutating func createVCPUs(_ machine: any KVMVirtualMachine) throws(TrustDomainError) {
        progress(BuildProgress(phase: .vcpus, done: .zero, total: .zero))
        for id in 0..<UInt32(configuration.vcpus) {
            let vcpu = try refusing { () throws(KVMError) in try machine.createVCPU(id: id) }
            vcpus.append(vcpu)
            try refusing { () throws(KVMError) in
                try vcpu.setCPUID(cpuid(of: vcpu))
                try vcpu.tdxInitialize(initialRCX: configuration.plan.initialRCX)
            }
        }
    }

    private mutating func createMemory(_ machine: any KVMVirtualMachine) throws(TrustDomainError) -> GuestMemory {
        let regions = configuration.layout.regions.map(\.range)
        let plan = ShardPlan(
            regions: regions, policy: configuration.shards ?? .automatic(cpus: HostCPUs.online))
        let placement = configuration.placement
        let (host, name, observer) = (host, configuration.name, configuration.observer ?? ConversionObserver())
        let memory = try refusing { () throws(KVMError) in
            try GuestMemory.make(
                in: machine, host: host, plan: plan, sides: .apart, name: name, placement: placement,
                observer: observer)
        }
        self.memory = memory
        let total = configuration.layout.backedSize
        var done = ByteCount.zero
        for region in regions {
            do {
                try memory.convert(
                    region, to: .private, origin: nil,
                    progress: {
                        progress(BuildProgress(phase: .memory, done: done + $0.settled, total: total))
                    })
            } catch {
                throw Self.buildError(error)
            }
            done += region.size
        }
        return memory
    }

    private func preallocate(_ memory: GuestMemory) throws(TrustDomainError) {
        let total = configuration.layout.backedSize
        progress(BuildProgress(phase: .allocate, done: .zero, total: total))
        // Sound: the threads that fill report one at a time, and this one waits for them.
        nonisolated(unsafe) let report = progress
        do {
            try memory.preallocate(
                threads: HostCPUs.online,
                progress: { report(BuildProgress(phase: .allocate, done: $0, total: total)) })
        } catch {
            switch error {
            case .refused(let refusal): throw .refused(refusal)
            case .cancelled: preconditionFailure("a build is not cancelled")
            }
        }
        progress(BuildProgress(phase: .allocate, done: total, total: total))
    }

    /// The last step: KVM maps nothing ahead before the TD is finalized, and takes no page of the image once it may.
    private func preFault(_ memory: GuestMemory) throws(TrustDomainError) {
        guard let vcpu = vcpus.first else { preconditionFailure("a TD has a vCPU") }
        let total = configuration.layout.backedSize
        progress(BuildProgress(phase: .prefault, done: .zero, total: total))
        do {
            try memory.preFault(
                through: vcpu, progress: { progress(BuildProgress(phase: .prefault, done: $0, total: total)) })
        } catch {
            switch error {
            case .refused(let refusal): throw .refused(refusal)
            case .cancelled: preconditionFailure("a build is not cancelled")
            }
        }
    }

    /// A conversion that stops half-way is expected in a TD that is about to be undone: what counts is why.
    private static func buildError(_ error: ConversionError) -> TrustDomainError {
        if case .incomplete(let incomplete) = error, case .refused(let reason) = incomplete.reason {
            return .refused(reason)
        }
        return TrustDomainError(error)
    }

    /// Adds the plan's pages through the first vCPU and measures them as the module does.
    private mutating func load(_ memory: GuestMemory) throws(TrustDomainError) {
        let plan = configuration.plan
        let total = plan.addedSize
        var done = ByteCount.zero
        guard total > .zero, let vcpu = vcpus.first else { return }
        progress(BuildProgress(phase: .load, done: done, total: total))
        let staging = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Int(Self.stagingSize.rawValue), alignment: Int(pageSize))
        defer { staging.deallocate() }
        for run in plan.runs {
            var offset = ByteCount.zero
            while offset < run.range.size {
                let length = min(Self.stagingSize, run.range.size - offset)
                let bytes = UnsafeMutableRawBufferPointer(rebasing: staging[..<Int(length.rawValue)])
                run.copyBytes(from: offset, into: bytes)
                let address = run.range.start + offset
                let (before, progress) = (done, progress)
                try refusing { () throws(KVMError) in
                    try vcpu.tdxInitializeMemory(
                        from: UnsafeRawBufferPointer(bytes), at: address, measured: run.isMeasured
                    ) { pages in
                        progress(BuildProgress(phase: .load, done: before + pages.bytes, total: total))
                    }
                }
                measure(UnsafeRawBufferPointer(bytes), at: address, measured: run.isMeasured)
                offset += length
                done += length
            }
        }
    }

    private mutating func measure(_ bytes: UnsafeRawBufferPointer, at address: GuestPhysicalAddress, measured: Bool) {
        for offset in stride(from: 0, to: bytes.count, by: Int(pageSize)) {
            measurement.load(
                address + ByteCount(UInt64(offset)),
                contents: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(pageSize)]), measured: measured)
        }
    }

    /// Pages that go to the kernel in one call.
    private static var stagingSize: ByteCount { .mebibytes(2) }

    private func refusing<Result>(_ call: () throws(KVMError) -> Result) throws(TrustDomainError) -> Result {
        do {
            return try call()
        } catch {
            throw .refused(error)
        }
    }
}

private func hexadecimal(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
