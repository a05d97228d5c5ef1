internal import TDXStatusCodes

/// A TDX status in words, for `tdxctl explain`.
func render(_ explanation: StatusExplanation, _ style: Style) -> String {
    var fields: [(label: String, value: String)] = [
        ("Status", explanation.status.hexadecimal),
        ("Name", explanation.name.map(style.bold) ?? "unknown"),
        ("Class", explanation.statusClass),
        ("Severity", severityInFull(explanation.severity)),
    ]
    if let operand = explanation.operand { fields.append(("Operand", operand)) }
    fields.append(("Likely cause", explanation.cause))
    fields.append(("Next step", explanation.nextStep))
    return renderFields(fields, style)
}

/// `tdxctl explain --json`.
struct ExplanationRecord: Encodable, Hashable {
    var status: String
    var statusClass: String
    var name: String?
    var severity: String
    var recoverable: Bool
    var operand: String?
    var cause: String
    var nextStep: String

    init(_ explanation: StatusExplanation) {
        status = explanation.status.hexadecimal
        statusClass = explanation.statusClass
        name = explanation.name
        severity = explanation.severity.rawValue
        recoverable = explanation.severity == .recoverable
        operand = explanation.operand
        cause = explanation.cause
        nextStep = explanation.nextStep
    }

    enum CodingKeys: String, CodingKey {
        case status
        case statusClass = "class"
        case name, severity, recoverable, operand, cause
        case nextStep = "next_step"
    }

    /// Keys without a value are null, not absent.
    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(status, forKey: .status)
        try container.encode(statusClass, forKey: .statusClass)
        try container.encode(name, forKey: .name)
        try container.encode(severity, forKey: .severity)
        try container.encode(recoverable, forKey: .recoverable)
        try container.encode(operand, forKey: .operand)
        try container.encode(cause, forKey: .cause)
        try container.encode(nextStep, forKey: .nextStep)
    }
}

private func severityInFull(_ severity: StatusSeverity) -> String {
    switch severity {
    case .success: "success"
    case .info: "informative: the state is already what was asked for"
    case .recoverable: "recoverable: a repetition may succeed"
    case .nonRecoverable: "not recoverable: a repetition fails alike"
    case .fatal: "fatal: the trust domain cannot go on"
    }
}

/// Reads a status as people paste it: hexadecimal with or without 0x and with _ between digits, or what a log prints
/// as a signed or unsigned decimal with more than 16 digits.
func parseStatus(_ text: String) -> TDXStatus? {
    let plain = text.lowercased().filter { $0 != "_" }
    if plain.hasPrefix("-"), let value = Int64(plain) { return TDXStatus(UInt64(bitPattern: value)) }
    let digits = plain.hasPrefix("0x") ? String(plain.dropFirst(2)) : plain
    if !plain.hasPrefix("0x"), plain.count > 16 { return UInt64(plain).map { TDXStatus($0) } }
    guard digits.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }) else { return nil }
    return UInt64(digits, radix: 16).map { TDXStatus($0) }
}
