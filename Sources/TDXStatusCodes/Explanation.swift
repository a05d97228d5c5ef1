/// How bad a status is.
public enum StatusSeverity: String, Hashable, Sendable, CaseIterable {
    /// The call did what was asked.
    case success
    /// Bit 63 is clear: the state already is what was asked for, or RDX has where to go on.
    case info
    /// A repetition may succeed.
    case recoverable
    /// A repetition of the same call fails alike, or the vCPU cannot go on.
    case nonRecoverable = "non-recoverable"
    /// The trust domain cannot go on.
    case fatal
}

/// A status in words, for `tdxctl explain` and for errors.
public struct StatusExplanation: Hashable, Sendable {
    /// The status that is explained, raw.
    public var status: TDXStatus
    /// The class in words, such as "Secure EPT".
    public var statusClass: String
    /// The module's name for the condition, such as `EPT_WALK_FAILED`; nil when it is unknown.
    public var name: String?
    public var severity: StatusSeverity
    /// What bits 31:0 mean: an operand such as "RCX", or details; nil when they carry nothing.
    public var operand: String?
    /// What most likely led to it.
    public var cause: String
    /// What to do next.
    public var nextStep: String
}

/// One condition of the table that names and explains statuses.
struct StatusRow: Sendable {
    var upperHalf: UInt32
    var name: String
    var cause: String
    var nextStep: String

    init(_ upperHalf: UInt32, _ name: String, cause: String, nextStep: String) {
        self.upperHalf = upperHalf
        self.name = name
        self.cause = cause
        self.nextStep = nextStep
    }

    static let all: [StatusRow] = [
        general, operand, busy, pageMetadata, system, trustDomain, vcpu, key, platform, tdmr, secureEPT, metadata,
        serviceTD, migration, attestation, nested,
    ].flatMap { $0 }

    static let byUpperHalf: [UInt32: StatusRow] = Dictionary(
        all.map { ($0.upperHalf, $0) }, uniquingKeysWith: { first, _ in first })
}

extension TDXStatus {
    /// Every condition that has a name, as its base status.
    public static var allKnown: [TDXStatus] {
        StatusRow.all.map { TDXStatus(UInt64($0.upperHalf) << 32) }
    }

    /// The condition that a name means, such as `EPT_WALK_FAILED`, in any case, with or without Linux's prefix `TDX_`;
    /// an operand or detail is not part of it. Nil for an unknown name.
    public init?(name: String) {
        var wanted = name.uppercased()
        if wanted.starts(with: "TDX_") { wanted.removeFirst(4) }
        // Exits have a second code without the error bit.
        guard let upperHalf = StatusRow.all.filter({ $0.name == wanted }).map(\.upperHalf).max() else { return nil }
        self.init(UInt64(upperHalf) << 32)
    }

    /// The condition's name as the module's documentation spells it; nil for an unknown code.
    public var name: String? {
        if let software = softwareRow { return software.name }
        return StatusRow.byUpperHalf[UInt32(rawValue >> 32)]?.name
    }

    public var severity: StatusSeverity {
        if isSuccess { return .success }
        if isFatal { return .fatal }
        if isNonRecoverable { return .nonRecoverable }
        return isError ? .recoverable : .info
    }

    /// Everything that is known about the status; an unknown code is explained by its fields.
    public func explain() -> StatusExplanation {
        let row = softwareRow ?? StatusRow.byUpperHalf[UInt32(rawValue >> 32)]
        return StatusExplanation(
            status: self, statusClass: statusClass.name, name: row?.name, severity: severity,
            operand: operandText, cause: row?.cause ?? unknownCause, nextStep: row?.nextStep ?? unknownNextStep)
    }

    /// Codes that Linux makes itself when the call never reached the module (reference §3.2, bits 47:40 = 0xFF).
    private var softwareRow: StatusRow? {
        guard rawValue >> 32 == 0x8000_FF00 else { return nil }
        switch details {
        case 0xFFFF_0000:
            return StatusRow(
                0x8000_FF00, "SEAMCALL_VMFAILINVALID",
                cause: "The processor refused the SEAMCALL: no module is loaded, or it is being updated.",
                nextStep: "Load the TDX module and enable the host's TDX support.")
        case 13:
            return StatusRow(
                0x8000_FF00, "SEAMCALL_GP",
                cause: "The SEAMCALL raised a general-protection fault: TDX is not enabled by the firmware.",
                nextStep: "Enable TDX in the firmware's set-up.")
        case 6:
            return StatusRow(
                0x8000_FF00, "SEAMCALL_UD",
                cause: "The SEAMCALL raised an invalid-opcode fault: virtualisation (VMX) is off on this processor.",
                nextStep: "Load kvm_intel so that VMX is on.")
        default: return nil
        }
    }

    private var unknownCause: String {
        "The code is not in the table; its fields are: class \(statusClass.name), number \(number)."
    }

    private var unknownNextStep: String {
        switch severity {
        case .success, .info: "Look the code up in the documentation of the module's version."
        case .recoverable: "Retry; if it persists, look the code up in the documentation of the module's version."
        case .nonRecoverable: "Do not retry; look the code up in the documentation of the module's version."
        case .fatal: "Tear the trust domain down."
        }
    }

    /// What bits 31:0 mean for this condition.
    private var operandText: String? {
        if softwareRow != nil { return nil }
        switch rawValue >> 32 {
        case 0xC000_0B0F, 0xC000_0B10:
            return "virtual machine \(details >> 16), level \(details & 0xFFFF)"
        case 0x0000_0B0A, 0xC000_0B0B: return "level \(details)"
        case 0xC000_0608: return details == 0 ? nil : "operation state \(details)"
        case 0xC000_0621: return "x2APIC id \(details)"
        case 0xC000_0908 where details != 0: return "CPUID leaf 0x" + String(details, radix: 16, uppercase: true)
        case 0xC000_0920, 0xC000_0921: return "MSR 0x" + String(details, radix: 16, uppercase: true)
        case 0xC000_0A00, 0xC000_0A01, 0xC000_0A02: return "TDMR \(details & 0xFF)"
        case 0xC000_0A10, 0xC000_0A11: return "TDMR \(details & 0xFF), PAMT of \(pamtSize)"
        case 0xC000_0A12: return "TDMR \(details & 0xFF), PAMT of \(pamtSize), with TDMR \(details >> 16 & 0xFF)"
        case 0xC000_0A20, 0xC000_0A21: return "TDMR \(details & 0xFF), reserved area \(details >> 8 & 0xFF)"
        case 0xC000_0B11, 0xC000_0B12: return "operand \(details)"
        case 0x0000_0000 where details != 0: return "exit reason \(details)"
        default: break
        }
        let isOperandByClass = [1, 2, 3, 0xB].contains(statusClass.rawValue)
        guard details != 0 || statusClass.rawValue == 1 || base == .operandBusy else { return nil }
        if let name = Operand(details).name { return name }
        return isOperandByClass ? "operand \(details)" : "details 0x" + String(details, radix: 16, uppercase: true)
    }

    private var pamtSize: String {
        switch details >> 8 & 0xFF {
        case 0: "4 KiB pages"
        case 1: "2 MiB pages"
        case 2: "1 GiB pages"
        default: "size \(details >> 8 & 0xFF)"
        }
    }
}

extension TDXStatus: CustomStringConvertible {
    /// For example `0xc000030000000001 PAGE_METADATA_INCORRECT (RCX)`.
    public var description: String {
        let explanation = explain()
        let operand = explanation.operand.map { " (\($0))" } ?? ""
        return "\(hexadecimal) \(explanation.name ?? "unknown " + explanation.statusClass + " status")\(operand)"
    }
}
