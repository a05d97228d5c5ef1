/// A word of the end of a TD on the wire or on disk. A newer program may send one that this program does not know: it
/// is kept as it is, and equals none of the known ones.
public protocol EndTerm: RawRepresentable<String>, Codable, Hashable, Sendable, CustomStringConvertible {
    init(rawValue: String)
}

extension EndTerm {
    public var description: String { rawValue }
}

/// How a TD's private pages left it.
public struct EndPath: EndTerm {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The TD was terminated by KVM_TDX_TERMINATE_VM before a page was taken from it.
    public static let terminateFirst = Self(rawValue: "terminate-first")
    /// Every private page was taken from the living TD.
    public static let dynamicRemoval = Self(rawValue: "dynamic-removal")
    /// No TD, or its teardown was not begun.
    public static let none = Self(rawValue: "none")
    /// It could not be read which way the pages left.
    public static let unknown = Self(rawValue: "unknown")
}

/// A part of the end of a TD that is measured by itself.
public struct EndPhase: EndTerm {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    // The holder's.
    public static let quiesce = Self(rawValue: "quiesce")
    public static let terminate = Self(rawValue: "terminate")
    public static let release = Self(rawValue: "release")
    public static let close = Self(rawValue: "close")
    /// A process that terminates the TD of a holder that was killed.
    public static let lastWill = Self(rawValue: "last-will")

    // tdxd's.
    public static let exit = Self(rawValue: "exit")
    public static let holderLost = Self(rawValue: "holder-lost")
    public static let death = Self(rawValue: "death")
    public static let reap = Self(rawValue: "reap")
    public static let closeDuplicates = Self(rawValue: "close-duplicates")
    public static let quarantine = Self(rawValue: "quarantine")
    public static let prove = Self(rawValue: "prove")
}

/// What kind of thing went wrong in the end of a TD. The kind alone decides whether memory and key id may be given to
/// the next TD.
public struct EndFailureKind: EndTerm {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// A vCPU did not leave KVM_RUN in time. It keeps the VM as long as the holder's process lives, and no longer.
    public static let vcpuStuck = Self(rawValue: "vcpu_stuck")
    /// KVM_TDX_TERMINATE_VM answered EBUSY to the last attempt: the TD lives, and each page can be taken from it.
    public static let terminateBusy = Self(rawValue: "terminate_busy")
    /// KVM_TDX_TERMINATE_VM was refused for another reason.
    public static let terminateRefused = Self(rawValue: "terminate_refused")
    /// The policy could not be served, or the release could not begin: nothing was punched.
    public static let notBegun = Self(rawValue: "not_begun")
    /// A punch of a backing file was refused.
    public static let punchRefused = Self(rawValue: "punch_refused")
    /// The TDX module refused to give a page up (KVM_BUG_ON).
    public static let removalFailed = Self(rawValue: "removal_failed")
    /// KVM_BUG_ON when the VM was destroyed, after its memory had come back.
    public static let closeFailed = Self(rawValue: "close_failed")
    /// The emulated module still owns pages or the key id after the VM was closed.
    public static let moduleOwns = Self(rawValue: "module_owns")
    /// tdxd's punch through its duplicates was refused.
    public static let reapRefused = Self(rawValue: "reap_refused")
    /// The certificate could not be written.
    public static let certificateUnwritten = Self(rawValue: "certificate_unwritten")
    /// From an older program, which does not name the kind.
    public static let unspecified = Self(rawValue: "unspecified")

    /// Every kind that this version knows.
    public static let known: [Self] = [
        .vcpuStuck, .terminateBusy, .terminateRefused, .notBegun, .punchRefused, .removalFailed, .closeFailed,
        .moduleOwns, .reapRefused, .certificateUnwritten, .unspecified,
    ]

    private static let harmless: Set<Self> = [
        .vcpuStuck, .terminateBusy, .notBegun, .reapRefused, .certificateUnwritten,
    ]

    /// The key id may still be in use: no other TD gets it. True of every kind that this version does not know.
    public var keepsKey: Bool { !Self.harmless.contains(self) }

    /// Pages may still be the TD's, whatever residency is measured: no other TD gets them. True of every kind that this
    /// version does not know.
    public var keepsMemory: Bool { keepsKey && self != .closeFailed }

    /// Neither proofs nor waiting make this good: only a restart of the host does.
    public var isForGood: Bool { keepsKey || keepsMemory }
}

/// One thing that went wrong in the end of a TD. All of them are kept.
public struct EndFailure: Codable, Hashable, Sendable {
    public var kind: EndFailureKind
    /// The 64-bit completion status of the TDX module, as `0x` and 16 digits; nil where it is not known.
    public var status: String?
    /// For people; nothing is decided by it.
    public var text: String

    public init(_ kind: EndFailureKind, status: String? = nil, _ text: String) {
        self.kind = kind
        self.status = status
        self.text = text
    }
}

extension [EndFailure] {
    /// More than this many of one kind are one thing that went wrong.
    public static var mostOfAKind: Int { 8 }

    /// Adds what is new; of one kind at most `mostOfAKind` are kept.
    public mutating func note(_ failure: EndFailure) {
        guard !contains(failure), count(where: { $0.kind == failure.kind }) < Self.mostOfAKind else { return }
        append(failure)
    }

    public mutating func note(_ failures: [EndFailure]) {
        for failure in failures { note(failure) }
    }

    /// In words; nil for none.
    public var words: String? { isEmpty ? nil : map(\.text).joined(separator: "; ") }

    /// The first for which neither memory nor key id, or one of them, may be given to another TD.
    public var quarantining: EndFailure? { first { $0.kind.isForGood } }

    public var keepsMemory: Bool { contains { $0.kind.keepsMemory } }
    public var keepsKey: Bool { contains { $0.kind.keepsKey } }

    /// What the TDX module answered to the first failure that keeps something; nil where it is not known.
    public var status: String? { first { $0.kind.isForGood && $0.status != nil }?.status }
}
