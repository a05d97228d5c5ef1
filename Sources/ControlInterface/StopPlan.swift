/// In which order a TD is ended. The raw values are those on the wire.
public enum StopPolicy: String, Codable, Hashable, Sendable, CaseIterable {
    /// Terminate first where the kernel can.
    case auto
    /// Refuse where the kernel does not announce that it can.
    case terminateFirst = "terminate-first"
    /// Never terminate: every private page is removed from the living TD.
    case dynamicRemoval = "dynamic-removal"
    /// As `auto`, but memory comes back only when that is asked for, or at a pace.
    case deferred

    /// - Parameter text: as it came over the wire; nil for `standard`.
    /// - Throws: `ControlError.invalidField`.
    public init(validating text: String?, standard: Self) throws(ControlError) {
        if let text { self = try wireChoice("policy", text) } else { self = standard }
    }
}

/// What a Stop is answered after. The raw values are those on the wire.
public enum StopWait: String, Codable, Hashable, Sendable, CaseIterable {
    /// The end is proven, or as much of it as ever will be.
    case proven
    /// The TD runs no more; its memory follows.
    case stopped

    /// - Parameter text: as it came over the wire; nil for `standard`.
    /// - Throws: `ControlError.invalidField`.
    public init(validating text: String?, standard: Self) throws(ControlError) {
        if let text { self = try wireChoice("wait", text) } else { self = standard }
    }
}

/// - Throws: `ControlError.invalidField` for what is none of the choices.
private func wireChoice<Choice: RawRepresentable<String> & CaseIterable>(
    _ field: String, _ text: String
) throws(ControlError) -> Choice {
    guard let choice = Choice(rawValue: text) else {
        let shown = text.unicodeScalars.prefix(64).map { $0.properties.generalCategory == .control ? "?" : $0 }
        throw .invalidField(
            field: field, value: String(String.UnicodeScalarView(shown)),
            limit: "one of " + Choice.allCases.map(\.rawValue).joined(separator: ", "))
    }
    return choice
}

/// Whether the kernel has KVM_TDX_TERMINATE_VM.
public enum TerminateAnnouncement: String, Codable, Hashable, Sendable, CaseIterable {
    /// It announces it.
    case present
    case absent
    /// Only the call would tell.
    case unknown
}

/// One step of the end of a TD, before it is taken.
public struct PlannedStep: Codable, Hashable, Sendable {
    public var name: String
    public var detail: String
    /// What the step gives back to the host.
    public var bytes: UInt64

    public init(name: String, detail: String, bytes: UInt64 = 0) {
        self.name = name
        self.detail = detail
        self.bytes = bytes
    }
}

extension ManagerInterface {
    /// What of a TD's end is to be planned.
    public struct DomainStop: Codable, Hashable, Sendable {
        public var name: String
        /// A `StopPolicy`; nil for the configured one.
        public var policy: String?

        public init(name: String, policy: String? = nil) {
            self.name = name
            self.policy = policy
        }
    }

    public enum PlanStop {
        public static let method = InterfaceName.manager + ".PlanStop"
        public typealias Parameters = DomainStop

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            public var policy: String
            /// `terminate-first` or `dynamic-removal`.
            public var path: EndPath
            public var terminate: TerminateAnnouncement
            public var vcpus: Int
            public var memoryBytes: UInt64
            /// nil where not every backing file could be counted.
            public var residentPrivateBytes: UInt64?
            public var residentSharedBytes: UInt64?
            /// In the order in which they are taken.
            public var steps: [PlannedStep]
            /// What happens when the holder is killed instead; nil for nothing.
            public var lastWill: LastWillState?
            /// Who rewrites pages that are taken from the TD, in words; nil from a tdxd that does not say.
            public var pageReset: String?
            /// Whether the CPU has the partial-write erratum; nil where that is not known.
            public var erratum: Bool?

            /// - Parameter further: what tdxd does behind the holder's steps.
            public init(
                name: String, backend: Backend, policy: StopPolicy, memoryBytes: UInt64,
                _ plan: HolderInterface.PlanStop.Reply, further: [PlannedStep], pageReset: String? = nil,
                erratum: Bool? = nil
            ) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.policy = policy.rawValue
                self.memoryBytes = memoryBytes
                path = plan.path
                terminate = plan.terminate
                vcpus = plan.vcpus
                residentPrivateBytes = plan.residentPrivateBytes
                residentSharedBytes = plan.residentSharedBytes
                steps = plan.steps + further
                lastWill = plan.lastWill
                self.pageReset = pageReset
                self.erratum = erratum
            }

            enum CodingKeys: String, CodingKey {
                case name, backend, emulated, policy, path, terminate, vcpus
                case memoryBytes = "memory_bytes"
                case residentPrivateBytes = "resident_private_bytes"
                case residentSharedBytes = "resident_shared_bytes"
                case steps
                case lastWill = "last_will"
                case pageReset = "page_reset"
                case erratum
            }
        }
    }
}

extension HolderInterface {
    public struct StopChoice: Codable, Hashable, Sendable {
        /// A `StopPolicy`; nil for `auto`.
        public var policy: String?
        public init(policy: String? = nil) { self.policy = policy }
    }

    /// How fast memory is to come back.
    public struct Pace: Codable, Hashable, Sendable {
        /// Nil for as fast as it goes.
        public var bytesPerSecond: UInt64?
        public init(bytesPerSecond: UInt64?) { self.bytesPerSecond = bytesPerSecond }

        enum CodingKeys: String, CodingKey { case bytesPerSecond = "bytes_per_second" }
    }

    public enum SetPace {
        public static let method = InterfaceName.holder + ".SetPace"
        public typealias Parameters = Pace
    }

    public enum Reclaim {
        public static let method = InterfaceName.holder + ".Reclaim"
        public typealias Reply = Stop.Reply

        public struct Parameters: Codable, Hashable, Sendable {
            /// Nil for as fast as it goes.
            public var bytesPerSecond: UInt64?
            /// A multiple of 2 MiB up to 64 MiB; nil for the holder's own.
            public var chunkBytes: UInt64?

            public init(bytesPerSecond: UInt64? = nil, chunkBytes: UInt64? = nil) {
                self.bytesPerSecond = bytesPerSecond
                self.chunkBytes = chunkBytes
            }

            enum CodingKeys: String, CodingKey {
                case bytesPerSecond = "bytes_per_second"
                case chunkBytes = "chunk_bytes"
            }
        }
    }

    public enum PlanStop {
        public static let method = InterfaceName.holder + ".PlanStop"
        public typealias Parameters = StopChoice

        public struct Reply: Codable, Hashable, Sendable {
            public var path: EndPath
            public var terminate: TerminateAnnouncement
            public var vcpus: Int
            public var residentPrivateBytes: UInt64?
            public var residentSharedBytes: UInt64?
            public var steps: [PlannedStep]
            public var lastWill: LastWillState?

            public init(
                path: EndPath, terminate: TerminateAnnouncement, vcpus: Int, residentPrivateBytes: UInt64?,
                residentSharedBytes: UInt64?, steps: [PlannedStep]
            ) {
                self.path = path
                self.terminate = terminate
                self.vcpus = vcpus
                self.residentPrivateBytes = residentPrivateBytes
                self.residentSharedBytes = residentSharedBytes
                self.steps = steps
            }

            enum CodingKeys: String, CodingKey {
                case path, terminate, vcpus
                case residentPrivateBytes = "resident_private_bytes"
                case residentSharedBytes = "resident_shared_bytes"
                case steps
                case lastWill = "last_will"
            }
        }
    }
}
