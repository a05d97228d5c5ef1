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
