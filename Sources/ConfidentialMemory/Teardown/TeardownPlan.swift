public import MemoryUnits
public import Terms

/// Whether the kernel has KVM_TDX_TERMINATE_VM, which no released kernel up to 7.2 has.
public enum TerminateSupport: Hashable, Sendable {
    /// Announced by the capability word, or seen to work on a throw-away TD.
    case present
    /// EINVAL, ENOTTY or EOPNOTSUPP was the answer, or the VM is not a TD.
    case absent
    /// Not asked yet; the first call will show.
    case unknown
}

/// What a TD's end is planned from. All of it was read from the host.
public struct TeardownFacts: Hashable, Sendable {
    public struct Shard: Hashable, Sendable {
        public var size: ByteCount
        /// Bytes present on either side, by cachestat(2); nil where it was not read.
        public var resident: Residency?
        /// The chunks in which every page was present then, and which need not be counted again before they are punched;
        /// nil where it was not measured.
        var full: FullSides?

        public init(size: ByteCount, resident: Residency? = nil) {
            self.size = size
            self.resident = resident
        }
    }

    public var terminate: TerminateSupport
    public var vcpus: Int
    public var shards: [Shard]
    /// CPUs that may release memory at the same time.
    public var cpus: Int

    public init(terminate: TerminateSupport, vcpus: Int, shards: [Shard], cpus: Int) {
        self.terminate = terminate
        self.vcpus = vcpus
        self.shards = shards
        self.cpus = cpus
    }
}

/// How a TD is to be ended.
public struct TeardownPolicy: Hashable, Sendable {
    public enum Order: String, Hashable, Sendable, CaseIterable {
        /// Terminate first where the kernel can.
        case auto
        /// Refuse where it cannot.
        case terminateFirst = "terminate-first"
        /// Never terminate: every private page is removed from the living TD.
        case dynamicRemoval = "dynamic-removal"
    }

    public var order: Order
    /// Bytes in one punch, which cannot be interrupted: 2 MiB to 64 MiB.
    public var chunk: ByteCount
    /// How long vCPUs may take to leave KVM_RUN.
    public var quiesceMilliseconds: Int
    /// How often EBUSY from KVM_TDX_TERMINATE_VM is answered by another try, 10 ms apart.
    public var terminateAttempts: Int
    /// Shards that are given back at a time, at most: from 1 on. There are never more than CPUs.
    public var threads: Int

    /// - Precondition: `chunk` is a multiple of 2 MiB from 2 MiB to 64 MiB, `threads` at least 1.
    public init(
        order: Order = .auto, chunk: ByteCount = .mebibytes(32), quiesceMilliseconds: Int = 5_000,
        terminateAttempts: Int = 100, threads: Int = .max
    ) {
        precondition(threads >= 1, "a release has a thread")
        precondition(
            chunk >= .mebibytes(2) && chunk <= GuestMemory.maximumChunk
                && chunk.rawValue % GuestMemory.chunkAlignment.rawValue == 0,
            "a punch is 2 MiB to 64 MiB")
        self.order = order
        self.chunk = chunk
        self.quiesceMilliseconds = quiesceMilliseconds
        self.terminateAttempts = terminateAttempts
        self.threads = threads
    }
}

/// The ordered steps of a TD's end. Pure; the order is the point: what is zapped before the TD is terminated is removed
/// page by page from a living TD, up to twelve times slower (reference: kvm.md §5.1), so `terminate` stands before every
/// step that unmaps, punches or closes.
public struct TeardownPlan: Hashable, Sendable {
    public enum Step: Hashable, Sendable {
        /// Every vCPU leaves KVM_RUN.
        case quiesce(vcpus: Int)
        /// KVM_TDX_TERMINATE_VM; `mayBeAbsent` where it is unknown yet whether the kernel has it.
        case terminate(mayBeAbsent: Bool)
        /// Host mappings dropped, then every shard punched, `threads` shards at a time.
        case release(shards: Int, threads: Int, chunk: ByteCount)
        /// Guest memory, vCPUs, VM.
        case close(files: Int, vcpus: Int)
    }

    /// What is expected; `TeardownReport.path` has what came.
    public let path: EndPath
    public let steps: [Step]
    /// What it was planned from.
    public let facts: TeardownFacts
    /// Bytes present before; nil where not every shard was read.
    public let resident: ByteCount?

    /// - Throws: `.terminateAbsent` when the policy insists on a call that the kernel does not have.
    public init(_ facts: TeardownFacts, policy: TeardownPolicy = TeardownPolicy()) throws(TeardownRefused) {
        if policy.order == .terminateFirst, facts.terminate == .absent { throw .terminateAbsent }
        var steps: [Step] = [.quiesce(vcpus: facts.vcpus)]
        let terminates = policy.order != .dynamicRemoval && facts.terminate != .absent
        if terminates { steps.append(.terminate(mayBeAbsent: facts.terminate == .unknown)) }
        path = terminates ? .terminateFirst : .dynamicRemoval
        if !facts.shards.isEmpty {
            steps.append(
                .release(
                    shards: facts.shards.count,
                    threads: max(1, min(facts.cpus, facts.shards.count, policy.threads)), chunk: policy.chunk))
        }
        steps.append(.close(files: facts.shards.count, vcpus: facts.vcpus))
        self.steps = steps
        self.facts = facts
        let read = facts.shards.compactMap(\.resident)
        resident = read.count == facts.shards.count ? read.reduce(.zero) { $0 + $1.total } : nil
    }
}

/// A teardown that was not begun; nothing was changed.
public enum TeardownRefused: Error, Hashable, Sendable {
    /// The policy is terminate-first and the kernel has no KVM_TDX_TERMINATE_VM.
    case terminateAbsent
}

/// One phase of a teardown, measured.
public struct TeardownPhase: Hashable, Sendable {
    public enum Name: String, Hashable, Sendable, CaseIterable {
        case quiesce
        case terminate
        case release
        case close
    }

    public var name: Name
    /// By the monotonic clock.
    public var milliseconds: Double
    /// Bytes given back to the host.
    public var bytes: ByteCount
    /// Calls into the kernel that did the work.
    public var calls: Int
    /// Remarks beyond the numbers.
    public var detail: String?
}

/// How a TD ended, as its own process saw it.
public struct TeardownReport: Hashable, Sendable {
    /// What happened in fact.
    public var path: EndPath
    public var phases: [TeardownPhase] = []
    public var released: ByteCount = .zero
    /// Bytes still present in the backing files after the release, by cachestat(2); nil where that could not be read.
    public var remaining: ByteCount? = .zero
    /// All that went wrong, in the order in which it did.
    public var failures: [EndFailure] = []
    /// A page could not be taken from the TD: guest memory, vCPUs and VM are still open, and what is resident in them must not
    /// become another TD's.
    public var isWithheld: Bool { failures.contains { $0.kind == .removalFailed } }
}

/// How far a teardown has come.
public struct TeardownProgress: Hashable, Sendable {
    public var phase: TeardownPhase.Name
    /// Bytes given back so far.
    public var done: ByteCount
    /// Bytes to give back; 0 where it was not counted.
    public var total: ByteCount
    public var detail: String?
}
