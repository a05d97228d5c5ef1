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

/// Reads a status as people paste it: its name, hexadecimal with or without 0x and with _ between digits, or the signed or
/// unsigned decimal that a log prints. Statuses are large: all but SUCCESS, given as 0, and the exits of VP.ENTER, below 2^16,
/// have bits above 31 set. A number of decimal digits alone is therefore decimal when it is one of these, or too long for 16
/// hexadecimal digits; else it is the hexadecimal number that an error message shows.
func parseStatus(_ text: String) -> TDXStatus? {
    if let status = TDXStatus(name: text) { return status }
    let plain = text.lowercased().filter { $0 != "_" }
    if let digits = plain.utf8.first, digits == UInt8(ascii: "-") {
        return Int64(plain).map { TDXStatus(UInt64(bitPattern: $0)) }
    }
    let isPrefixed = plain.starts(with: "0x")
    let digits = isPrefixed ? plain.dropFirst(2) : Substring(plain)
    guard !digits.isEmpty, digits.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }) else {
        return nil
    }
    let isDecimal = digits.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    if !isPrefixed, isDecimal, let value = UInt64(digits) {
        // 16 digits are a whole status in hexadecimal; of fewer or more, one that names a condition is decimal.
        if digits.utf8.count != 16, digits.utf8.count > 16 || value < 1 << 16 || TDXStatus(value).name != nil {
            return TDXStatus(value)
        }
    }
    return UInt64(digits, radix: 16).map { TDXStatus($0) }
}
