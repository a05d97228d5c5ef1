/// The guests that can be asked for by name.
public enum GuestBehaviour: String, CaseIterable, Hashable, Sendable {
    /// Does nothing: every vCPU halts.
    case idle
    /// Accepts all memory at once, converts as a boot loader does, and rests.
    case boot
    /// Accepts what it touches alone, converts as a boot loader does, and rests.
    case bootLazily = "boot-lazy"
    /// Converts memory to shared and back without an end, on every vCPU.
    case storm
    /// Asks for a quote.
    case quote
    /// Reports a fatal error.
    case fatal
    /// Resets the machine twice, and rests.
    case reset

    /// One line for a help text.
    public var summary: String {
        switch self {
        case .idle: "halts at once"
        case .boot: "accepts all memory, makes 5,000 small conversions, then rests"
        case .bootLazily: "accepts what it touches, makes 5,000 small conversions, then rests"
        case .storm: "converts 4 MiB back and forth without an end, on every vCPU"
        case .quote: "asks for a quote"
        case .fatal: "reports a fatal error"
        case .reset: "resets the machine twice, then rests"
        }
    }
}
