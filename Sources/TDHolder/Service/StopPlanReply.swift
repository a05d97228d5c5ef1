internal import ConfidentialMemory
internal import ControlInterface
internal import MemoryUnits

extension TeardownPolicy.Order {
    init(_ policy: StopPolicy) {
        switch policy {
        case .auto, .deferred: self = .auto
        case .terminateFirst: self = .terminateFirst
        case .dynamicRemoval: self = .dynamicRemoval
        }
    }
}

extension HolderInterface.PlanStop.Reply {
    init(_ plan: TeardownPlan) {
        let read = plan.facts.shards.compactMap(\.resident)
        let isCounted = read.count == plan.facts.shards.count
        self.init(
            path: plan.path, terminate: TerminateAnnouncement(plan.facts.terminate),
            vcpus: plan.facts.vcpus,
            residentPrivateBytes: isCounted ? read.reduce(0) { $0 + $1.private.rawValue } : nil,
            residentSharedBytes: isCounted ? read.reduce(0) { $0 + $1.shared.rawValue } : nil,
            steps: plan.steps.map { PlannedStep($0, resident: plan.resident ?? .zero) })
    }
}

extension TerminateAnnouncement {
    fileprivate init(_ support: ConfidentialMemory.TerminateSupport) {
        switch support {
        case .present: self = .present
        case .absent: self = .absent
        case .unknown: self = .unknown
        }
    }
}

extension PlannedStep {
    fileprivate init(_ step: TeardownPlan.Step, resident: ByteCount) {
        switch step {
        case .quiesce(let vcpus):
            self.init(name: "quiesce", detail: "\(counted(vcpus, "vCPU")) out of KVM_RUN")
        case .terminate(let mayBeAbsent):
            self.init(
                name: "terminate",
                detail: "KVM_TDX_TERMINATE_VM" + (mayBeAbsent ? ", which this kernel may not have" : ""))
        case .release(let shards, let threads, let chunk):
            self.init(
                name: "release",
                detail: "\(counted(shards, "shard")), \(counted(threads, "thread")), \(chunk) in a punch",
                bytes: resident.rawValue)
        case .close(let files, let vcpus):
            self.init(
                name: "close",
                detail: "\(counted(files, "shard")), \(counted(vcpus, "vCPU")), the VM")
        }
    }
}
