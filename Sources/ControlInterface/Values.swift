/// The kind of host a TD runs on.
public enum Backend: String, Codable, Hashable, Sendable, CaseIterable {
    case tdx
    case softwareProtected = "software_protected"
    case guestMemfd = "guest_memfd"
    case memfd

    /// True wherever the TDX module is the software one.
    public var isEmulated: Bool { self != .tdx }
}

/// What a run of pages is: settled on one side, or in transition.
public enum PageAttribute: String, Codable, Hashable, Sendable, CaseIterable {
    case `private`
    case shared
    case convertingToPrivate = "converting_to_private"
    case convertingToShared = "converting_to_shared"
}

/// How a check or a self-test step ended.
public enum CheckResult: String, Codable, Hashable, Sendable, CaseIterable {
    case pass
    case skip
    case fail
}

/// A run of guest memory with one attribute. Addresses and sizes in bytes.
public struct MemoryRun: Codable, Hashable, Sendable {
    public var gpa: UInt64
    public var bytes: UInt64
    public var attribute: PageAttribute

    public init(gpa: UInt64, bytes: UInt64, attribute: PageAttribute) {
        self.gpa = gpa
        self.bytes = bytes
        self.attribute = attribute
    }
}

/// How far long work has come. `totalBytes` is 0 where the end is not known.
public struct Progress: Codable, Hashable, Sendable {
    public var phase: String
    public var doneBytes: UInt64
    public var totalBytes: UInt64
    public var detail: String?
    /// Over the last seconds; nil until it can be told.
    public var bytesPerSecond: UInt64?
    /// At that rate; nil where rate or total are not known.
    public var etaSeconds: Double?

    public init(phase: String, doneBytes: UInt64, totalBytes: UInt64, detail: String? = nil) {
        self.phase = phase
        self.doneBytes = doneBytes
        self.totalBytes = totalBytes
        self.detail = detail
    }

    enum CodingKeys: String, CodingKey {
        case phase
        case doneBytes = "done_bytes"
        case totalBytes = "total_bytes"
        case detail
        case bytesPerSecond = "bytes_per_second"
        case etaSeconds = "eta_seconds"
    }
}

/// One row of the tree that `tdxctl ok` prints.
public struct HostCheck: Codable, Hashable, Sendable {
    /// Path in the tree of checks, such as `kvm/guest_memfd`.
    public var name: String
    public var title: String
    public var result: CheckResult
    /// What was read, and from where.
    public var evidence: String
    /// How to mend it; nil for a pass.
    public var hint: String?

    public init(name: String, title: String, result: CheckResult, evidence: String, hint: String? = nil) {
        self.name = name
        self.title = title
        self.result = result
        self.evidence = evidence
        self.hint = hint
    }
}

/// What a host offers, and the backend that follows from it.
public struct HostReport: Codable, Hashable, Sendable {
    public var backend: Backend
    public var emulated: Bool
    /// Why this backend was chosen.
    public var reason: String
    public var checks: [HostCheck]

    public init(backend: Backend, reason: String, checks: [HostCheck]) {
        self.backend = backend
        self.emulated = backend.isEmulated
        self.reason = reason
        self.checks = checks
    }
}

/// One step of the self-test.
public struct SelfTestStep: Codable, Hashable, Sendable {
    public var name: String
    public var result: CheckResult
    public var evidence: String
    public var milliseconds: Double

    public init(name: String, result: CheckResult, evidence: String, milliseconds: Double) {
        self.name = name
        self.result = result
        self.evidence = evidence
        self.milliseconds = milliseconds
    }
}
