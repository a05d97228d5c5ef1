public import MemoryUnits

// Replies of io.tdxd.Manager that follow from what the holder replied.

extension ManagerInterface.MapChanges.Reply {
    public init(name: String, backend: Backend, _ changes: HolderInterface.MapChanges.Reply) {
        self.init(
            name: name, backend: backend, sequence: changes.sequence, snapshot: changes.snapshot, runs: changes.runs)
    }
}

extension ManagerInterface.Conversions.Reply {
    public init(name: String, backend: Backend, _ found: HolderInterface.Conversions.Reply) {
        self.init(
            name: name, backend: backend, directions: found.directions, hottest: found.hottest, storm: found.storm,
            conversions: found.conversions)
    }
}

extension ManagerInterface.Verify.Reply {
    public init(name: String, backend: Backend, reclaimed: Bool, _ found: HolderInterface.Verify.Reply) {
        self.init(
            name: name, backend: backend, reclaimed: reclaimed, checkedBytes: found.checkedBytes,
            wastedBytes: found.wastedBytes, ranges: found.ranges, milliseconds: found.milliseconds)
    }
}

extension HolderInterface.Verify.Reply {
    public init(checkedBytes: UInt64, ranges: [DoubleResidency], milliseconds: Double) {
        self.init(
            checkedBytes: checkedBytes, wastedBytes: ranges.reduce(0) { $0 + $1.wastedBytes }, ranges: ranges,
            milliseconds: milliseconds)
    }
}

extension ManagerInterface.PlanStop.Reply {
    /// - Parameter further: what tdxd does after the holder's steps.
    public init(
        name: String, backend: Backend, policy: StopPolicy, memoryBytes: UInt64,
        _ plan: HolderInterface.PlanStop.Reply, further: [PlannedStep], pageReset: String? = nil, erratum: Bool? = nil
    ) {
        self.init(
            name: name, backend: backend, policy: policy.rawValue, path: plan.path, terminate: plan.terminate,
            vcpus: plan.vcpus, memoryBytes: memoryBytes, residentPrivateBytes: plan.residentPrivateBytes,
            residentSharedBytes: plan.residentSharedBytes, steps: plan.steps + further, lastWill: plan.lastWill,
            pageReset: pageReset, erratum: erratum)
    }
}

extension ManagerInterface.GetKeys.Reply {
    /// - Parameter capacity: nil where it is not known.
    public init(backend: Backend, capacity: Int?, keys: [KeyHolding]) {
        self.init(
            backend: backend, capacity: capacity,
            // TDs from before a smaller pool was configured may hold more than there are.
            free: capacity.map { max(0, $0 - keys.count) }, reserved: keys.count { $0.use == .reserved },
            inUse: keys.count { $0.use == .inUse }, draining: keys.count { $0.use == .draining }, keys: keys)
    }
}

extension ManagerInterface.SelfTest.Reply {
    public init(backend: Backend, passed: Bool, steps: [SelfTestStep]) {
        self.init(step: nil, backend: backend.rawValue, passed: passed, steps: steps)
    }
}

extension ManagerInterface.CheckKexec.Reply {
    /// The check that, skipped, leaves the whole answer open.
    public static let otherVMs = "other_vms"

    /// Neither safe nor known not to be.
    public var isUnknown: Bool { !safe && !checks.contains { $0.result == .fail } }

    /// Safe means that no check fails, and that what other programs' VMs hold is known.
    public init(backend: Backend, checks: [HostCheck], answers: [KexecAnswer]) {
        self.init(
            backend: backend,
            safe: !checks.contains { $0.result == .fail || ($0.name == Self.otherVMs && $0.result == .skip) },
            checks: checks, answers: answers)
    }
}

extension DrainPurpose {
    /// Whether running TDs are ended, too.
    public var endsDomains: Bool { self != .moduleUpdate }

    /// As the command line has it.
    public var words: String { self == .moduleUpdate ? "module-update" : rawValue }
}

extension DrainStatus {
    /// Ready means that there is a purpose and nothing prevents it.
    public init(
        backend: Backend, purpose: DrainPurpose?, since: String?, building: Int, running: Int, ending: Int,
        privateBytes: UInt64, convertingBytes: UInt64, keysTaken: Int, blockers: [String], ended: [CertificateSummary]
    ) {
        self.init(
            backend: backend, purpose: purpose, since: since, ready: purpose != nil && blockers.isEmpty,
            building: building, running: running, ending: ending, privateBytes: privateBytes,
            convertingBytes: convertingBytes, keysTaken: keysTaken, blockers: blockers, ended: ended)
    }
}

extension InventoryTotal {
    /// Nothing yet.
    public init(backend: Backend) {
        self.init(
            backend: backend, domains: 0, wholeDomains: 0, withoutRanges: 0, memoryBytes: 0, privateBytes: 0,
            convertingBytes: 0, ranges: 0)
    }

    /// - Parameter wantsRanges: they were asked for.
    public mutating func add(_ domain: InventoryDomain, wantsRanges: Bool) {
        domains += 1
        if domain.source == .whole { wholeDomains += 1 }
        if wantsRanges, domain.ranges == nil { withoutRanges += 1 }
        memoryBytes = memoryBytes.addingSaturated(domain.memoryBytes)
        privateBytes = privateBytes.addingSaturated(domain.privateBytes)
        convertingBytes = convertingBytes.addingSaturated(domain.convertingBytes)
        ranges += domain.ranges ?? 0
    }
}

extension ManagerInterface.Inventory {
    /// In one answer at most.
    public static let mostDomains = 256
    /// In one answer at most, over all TDs in it.
    public static let mostRanges = 4096
}

extension HolderInterface.Convert {
    /// What is converted in one piece: no progress comes, and a conversion cannot be ended in it.
    public static let chunk = ByteCount.mebibytes(64)
}
