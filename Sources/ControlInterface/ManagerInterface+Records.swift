/// A certificate in one line.
public struct CertificateSummary: Codable, Hashable, Sendable {
    public var name: String
    public var id: String
    public var backend: Backend
    public var emulated: Bool
    public var path: EndPath
    /// Nil from a tdxd that does not say.
    public var policy: String?
    public var holderDied: Bool
    /// RFC 3339, UTC.
    public var startedAt: String
    public var milliseconds: Double
    public var releasedBytes: UInt64
    public var complete: Bool
    public var failure: String?
    /// What of the end is still to come; nil when it is over.
    public var pending: String?

    public init(_ certificate: TeardownCertificate) {
        name = certificate.name
        id = certificate.id
        backend = certificate.backend
        emulated = certificate.emulated
        path = certificate.path
        policy = certificate.policy
        holderDied = certificate.holderDied
        startedAt = certificate.startedAt
        milliseconds = certificate.milliseconds
        releasedBytes = certificate.releasedBytes
        complete = certificate.complete
        failure = certificate.failure
        pending = certificate.pending
    }

    enum CodingKeys: String, CodingKey {
        case name, id, backend, emulated, path, policy
        case holderDied = "holder_died"
        case startedAt = "started_at"
        case milliseconds
        case releasedBytes = "released_bytes"
        case complete, failure, pending
    }
}

/// What a key id that is not free is held for.
public enum KeyUse: String, Codable, Hashable, Sendable, CaseIterable {
    /// For a TD that is being built.
    case reserved
    case inUse = "in_use"
    /// The TD has ended for its user; the return is not yet proven.
    case draining
}

/// A key id that is not free, and whose it is.
public struct KeyHolding: Codable, Hashable, Sendable {
    /// nil where the kernel keeps it to itself (backend tdx).
    public var keyID: UInt16?
    public var use: KeyUse
    /// The TD's name; nil when only its id is known.
    public var name: String?
    public var id: String

    public init(keyID: UInt16?, use: KeyUse, name: String?, id: String) {
        self.keyID = keyID
        self.use = use
        self.name = name
        self.id = id
    }

    enum CodingKeys: String, CodingKey {
        case keyID = "key_id"
        case use, name, id
    }
}

extension ManagerInterface {
    public enum ListCertificates {
        public static let method = InterfaceName.manager + ".ListCertificates"

        public struct Reply: Codable, Hashable, Sendable {
            /// The latest first.
            public var certificates: [CertificateSummary]
            public init(certificates: [CertificateSummary]) { self.certificates = certificates }
        }
    }

    public enum GetCertificate {
        public static let method = InterfaceName.manager + ".GetCertificate"

        public struct Parameters: Codable, Hashable, Sendable {
            /// A TD's id or its name; of several of one name the latest is meant.
            public var certificate: String
            public init(certificate: String) { self.certificate = certificate }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var certificate: TeardownCertificate
            public init(certificate: TeardownCertificate) { self.certificate = certificate }
        }
    }

    public enum GetKeys {
        public static let method = InterfaceName.manager + ".GetKeys"

        public struct Reply: Codable, Hashable, Sendable {
            public var backend: Backend
            public var emulated: Bool
            /// How many key ids there are for TDs.
            public var capacity: Int
            public var free: Int
            public var reserved: Int
            public var inUse: Int
            public var draining: Int
            /// Those that are not free, in ascending order.
            public var keys: [KeyHolding]

            public init(backend: Backend, capacity: Int, keys: [KeyHolding]) {
                self.backend = backend
                self.emulated = backend.isEmulated
                self.capacity = capacity
                self.keys = keys
                // TDs from before a smaller pool was configured may hold more than there are.
                free = max(0, capacity - keys.count)
                reserved = keys.count { $0.use == .reserved }
                inUse = keys.count { $0.use == .inUse }
                draining = keys.count { $0.use == .draining }
            }

            enum CodingKeys: String, CodingKey {
                case backend, emulated, capacity, free, reserved
                case inUse = "in_use"
                case draining, keys
            }
        }
    }
}
