/// What the library in a VMM's process reads from environment variables.
public struct VMMSettings: Hashable, Sendable {
    /// When TDX is emulated.
    public enum Emulation: String, CaseIterable, Hashable, Sendable {
        /// Where the host's KVM has no TDX.
        case auto
        case always
        case never
    }

    public enum Variable: String, CaseIterable, Sendable {
        case emulate = "TDXD_VMM_EMULATE"
        case guest = "TDXD_VMM_GUEST"
        case report = "TDXD_VMM_REPORT"
        case name = "TDXD_VMM_NAME"
        case socket = "TDXD_VMM_SOCKET"
        case whenDone = "TDXD_VMM_WHEN_GUEST_ENDS"
        case trace = "TDXD_VMM_TRACE"
        case backing = "TDXD_VMM_BACKING"
        case quiet = "TDXD_VMM_QUIET"
    }

    public var emulate = Emulation.auto
    /// A behaviour's name, or a script's path if there is a “/” in it.
    public var guest = GuestBehaviour.idle.rawValue
    /// Where the report is written; nil for nowhere.
    public var report: String?
    /// The TD's name at tdxd; nil for one made of the process's number.
    public var name: String?
    /// tdxd's socket; nil: the library does not look for tdxd.
    public var socket: String?
    /// SIGTERM to the own process once the guest's program has ended.
    public var endsWithGuest = false
    public var trace: String?
    /// "automatic", "guest_memfd" or "memfd"
    public var backing = "automatic"
    /// No line on standard error.
    public var isQuiet = false

    public init() {}

    /// - Parameter value: an environment variable's, nil where it is not set.
    /// - Throws: the variable with a value that it cannot have.
    public init(_ value: (Variable) -> String?) throws(VMMSettingsError) {
        func read(_ variable: Variable) -> String? { value(variable).flatMap { $0.isEmpty ? nil : $0 } }
        func refuse(_ variable: Variable, _ text: String, _ allowed: [String]) -> VMMSettingsError {
            VMMSettingsError(variable: variable, value: text, allowed: allowed)
        }
        if let text = read(.emulate) {
            guard let known = Emulation(rawValue: text) else {
                throw refuse(.emulate, text, Emulation.allCases.map(\.rawValue))
            }
            emulate = known
        }
        if let text = read(.guest) {
            guard text.contains("/") || GuestBehaviour(rawValue: text) != nil else {
                throw refuse(.guest, text, GuestBehaviour.allCases.map(\.rawValue) + ["a path with “/”"])
            }
            guest = text
        }
        report = read(.report)
        name = read(.name)
        socket = read(.socket)
        trace = read(.trace)
        if let text = read(.whenDone) {
            guard text == "terminate" else { throw refuse(.whenDone, text, ["terminate"]) }
            endsWithGuest = true
        }
        if let text = read(.backing) {
            let known = ["automatic", "guest_memfd", "memfd"]
            guard known.contains(text) else { throw refuse(.backing, text, known) }
            backing = text
        }
        if let text = read(.quiet) {
            guard text == "1" else { throw refuse(.quiet, text, ["1"]) }
            isQuiet = true
        }
    }

    /// The variables for this, for a program that is started.
    public var variables: [(Variable, String)] {
        var all: [(Variable, String)] = [(.emulate, emulate.rawValue), (.guest, guest), (.backing, backing)]
        if let report { all.append((.report, report)) }
        if let name { all.append((.name, name)) }
        if let socket { all.append((.socket, socket)) }
        if let trace { all.append((.trace, trace)) }
        if endsWithGuest { all.append((.whenDone, "terminate")) }
        if isQuiet { all.append((.quiet, "1")) }
        return all
    }
}

/// An environment variable with a value that it cannot have.
public struct VMMSettingsError: Error, Hashable, Sendable, CustomStringConvertible {
    public var variable: VMMSettings.Variable
    public var value: String
    public var allowed: [String]

    public var description: String {
        "\(variable.rawValue) is “\(value)”; it is one of \(allowed.joined(separator: ", "))"
    }
}
