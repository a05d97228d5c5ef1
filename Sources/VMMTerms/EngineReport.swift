internal import FoundationEssentials

/// What an engine has seen, for people and for tests. All of it is emulated.
public struct EngineReport: Codable, Hashable, Sendable {
    /// What the guest's program did.
    public struct Guest: Codable, Hashable, Sendable {
        public var name: String
        /// "not started", "running" or "finished"
        public var state: String
        public var steps: UInt64
        public var failures: [String]
        public var lines: [String]
        public var linesNotKept: Int

        public init(
            name: String, state: String, steps: UInt64, failures: [String], lines: [String], linesNotKept: Int
        ) {
            self.name = name
            self.state = state
            self.steps = steps
            self.failures = failures
            self.lines = lines
            self.linesNotKept = linesNotKept
        }
    }

    /// One TD; a VMM's reset makes another.
    public struct TrustDomain: Codable, Hashable, Sendable {
        public var generation: Int
        public var vcpus: Int
        /// Of its guest_memfds, in bytes.
        public var guestMemoryBytes: UInt64
        public var keyId: UInt16?
        /// 96 hexadecimal digits; nil before KVM_TDX_FINALIZE_VM.
        public var mrtd: String?
        public var loadedPages: UInt64
        public var measuredPages: UInt64
        public var privatePages: UInt64
        public var exits: [String: UInt64]
        /// KVM_SET_MEMORY_ATTRIBUTES, by direction; the VMM's first assignment of a slot counts as well.
        public var toShared: UInt64
        public var toSharedBytes: UInt64
        public var toPrivate: UInt64
        public var toPrivateBytes: UInt64
        public var punchedBytes: UInt64
        public var seamcalls: [String: UInt64]
        /// The VM was destroyed: its last descriptor went.
        public var destroyed: Bool
        public var leakedPages: UInt64
        /// A KVM_BUG_ON of the emulated kernel.
        public var bug: String?
        public var notes: [String]

        public init(
            generation: Int, vcpus: Int, guestMemoryBytes: UInt64, keyId: UInt16?, mrtd: String?,
            loadedPages: UInt64, measuredPages: UInt64, privatePages: UInt64, exits: [String: UInt64],
            toShared: UInt64, toSharedBytes: UInt64, toPrivate: UInt64, toPrivateBytes: UInt64, punchedBytes: UInt64,
            seamcalls: [String: UInt64], destroyed: Bool, leakedPages: UInt64, bug: String?, notes: [String]
        ) {
            self.generation = generation
            self.vcpus = vcpus
            self.guestMemoryBytes = guestMemoryBytes
            self.keyId = keyId
            self.mrtd = mrtd
            self.loadedPages = loadedPages
            self.measuredPages = measuredPages
            self.privatePages = privatePages
            self.exits = exits
            self.toShared = toShared
            self.toSharedBytes = toSharedBytes
            self.toPrivate = toPrivate
            self.toPrivateBytes = toPrivateBytes
            self.punchedBytes = punchedBytes
            self.seamcalls = seamcalls
            self.destroyed = destroyed
            self.leakedPages = leakedPages
            self.bug = bug
            self.notes = notes
        }
    }

    /// What was left after everything of the VMM's was closed.
    public struct Leaks: Codable, Hashable, Sendable {
        public var trustDomains: Int
        public var keyIds: Int
        public var pages: UInt64

        public var isEmpty: Bool { trustDomains == 0 && keyIds == 0 && pages == 0 }

        public init(
            trustDomains: Int, keyIds: Int, pages: UInt64
        ) {
            self.trustDomains = trustDomains
            self.keyIds = keyIds
            self.pages = pages
        }
    }

    /// Always true: the engine's TDs are those of a software module.
    public var emulated: Bool
    /// "guest_memfd" or "memfd"
    public var backend: String
    public var pid: Int32
    public var program: String
    public var requests: [String: UInt64]
    public var refusals: [String: UInt64]
    public var trustDomains: [TrustDomain]
    public var guest: Guest
    /// Nil while the VMM's process lives.
    public var leaks: Leaks?

    public init(
        backend: String, pid: Int32, program: String, requests: [String: UInt64], refusals: [String: UInt64],
        trustDomains: [TrustDomain], guest: Guest
    ) {
        emulated = true
        self.backend = backend
        self.pid = pid
        self.program = program
        self.requests = requests
        self.refusals = refusals
        self.trustDomains = trustDomains
        self.guest = guest
    }

    /// Requests in all, without those of TDX counted twice.
    public var requestCount: UInt64 { requests.filter { !$0.key.hasPrefix("KVM_TDX_") }.values.reduce(0, +) }

    public static func decode(_ bytes: [UInt8]) throws -> Self {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Self.self, from: Data(bytes))
    }

    /// One line of JSON.
    public func encoded() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys]
        return Array((try? encoder.encode(self)) ?? Data())
    }
}
