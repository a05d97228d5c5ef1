/// What a host is emptied for. The raw values are those on the wire.
public enum DrainPurpose: String, Codable, Hashable, Sendable, CaseIterable {
    case kexec
    case shutdown
    /// Of the TDX module, which TDs survive unless one is being built.
    case moduleUpdate = "module_update"
    case maintenance

    /// Whether running TDs are ended, too.
    public var endsDomains: Bool { self != .moduleUpdate }

    /// As the command line has it.
    public var words: String { self == .moduleUpdate ? "module-update" : rawValue }
}

/// Whether the host is being emptied, and how far that has come.
public struct DrainStatus: Codable, Hashable, Sendable {
    public var backend: Backend
    public var emulated: Bool
    /// Nil when the host is not being emptied.
    public var purpose: DrainPurpose?
    /// RFC 3339, UTC.
    public var since: String?
    /// Nothing stands against the purpose any more.
    public var ready: Bool
    public var building: Int
    public var running: Int
    /// Stopping, or stopped and not proven back.
    public var ending: Int
    /// Of all TDs, by their attribute maps; all memory of a TD whose holder does not answer.
    public var privateBytes: UInt64
    public var convertingBytes: UInt64
    public var keysTaken: Int
    /// What stands against it, each in words.
    public var blockers: [String]
    /// Ends since it began, the latest first: the proofs are in their certificates.
    public var ended: [CertificateSummary]

    public init(
        backend: Backend, purpose: DrainPurpose?, since: String?, building: Int, running: Int, ending: Int,
        privateBytes: UInt64, convertingBytes: UInt64, keysTaken: Int, blockers: [String], ended: [CertificateSummary]
    ) {
        self.backend = backend
        self.emulated = backend.isEmulated
        self.purpose = purpose
        self.since = since
        self.ready = purpose != nil && blockers.isEmpty
        self.building = building
        self.running = running
        self.ending = ending
        self.privateBytes = privateBytes
        self.convertingBytes = convertingBytes
        self.keysTaken = keysTaken
        self.blockers = blockers
        self.ended = ended
    }

    enum CodingKeys: String, CodingKey {
        case backend, emulated, purpose, since, ready, building, running, ending
        case privateBytes = "private_bytes"
        case convertingBytes = "converting_bytes"
        case keysTaken = "keys_taken"
        case blockers, ended
    }
}

/// One of the answers to kexec that are known, and what it says now.
public struct KexecAnswer: Codable, Hashable, Sendable {
    public var name: String
    /// Nil where another kernel decides.
    public var allows: Bool?
    public var reason: String

    public init(name: String, allows: Bool?, reason: String) {
        self.name = name
        self.allows = allows
        self.reason = reason
    }
}

extension ManagerInterface {
    public struct StatusReply: Codable, Hashable, Sendable {
        public var status: DrainStatus
        public init(status: DrainStatus) { self.status = status }
    }

    public enum Drain {
        public static let method = InterfaceName.manager + ".Drain"

        public struct Parameters: Codable, Hashable, Sendable {
            public var purpose: DrainPurpose
            /// A `StopPolicy`; nil for the configured one.
            public var policy: String?
            /// When the answer comes at the latest.
            public var deadlineMilliseconds: Int64?

            public init(purpose: DrainPurpose, policy: String? = nil, deadlineMilliseconds: Int64? = nil) {
                self.purpose = purpose
                self.policy = policy
                self.deadlineMilliseconds = deadlineMilliseconds
            }

            enum CodingKeys: String, CodingKey {
                case purpose, policy
                case deadlineMilliseconds = "deadline_ms"
            }
        }

        /// Progress while it lasts; the status in the last reply.
        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var status: DrainStatus?

            public init(progress: Progress) { self.progress = progress }
            public init(status: DrainStatus) { self.status = status }
        }
    }

    public enum GetDrain {
        public static let method = InterfaceName.manager + ".GetDrain"
        public typealias Reply = StatusReply
    }

    public enum Undrain {
        public static let method = InterfaceName.manager + ".Undrain"
        public typealias Reply = StatusReply
    }

    public enum CheckKexec {
        public static let method = InterfaceName.manager + ".CheckKexec"

        public struct Reply: Codable, Hashable, Sendable {
            public var backend: Backend
            public var emulated: Bool
            /// No check fails, and what other programs' VMs hold is known.
            public var safe: Bool
            public var checks: [HostCheck]
            public var answers: [KexecAnswer]

            /// The check that, skipped, leaves the whole answer open.
            public static let otherVMs = "other_vms"
            /// Neither safe nor known not to be.
            public var isUnknown: Bool { !safe && !checks.contains { $0.result == .fail } }

            public init(backend: Backend, checks: [HostCheck], answers: [KexecAnswer]) {
                self.backend = backend
                self.emulated = backend.isEmulated
                self.safe = !checks.contains {
                    $0.result == .fail || ($0.name == Self.otherVMs && $0.result == .skip)
                }
                self.checks = checks
                self.answers = answers
            }
        }
    }
}
