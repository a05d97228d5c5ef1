public import Logging
public import ServiceSupport

/// How one TD's holder is started: what it must know before it locks itself in. All else comes with its Build. The holder's directory is made from the TD's id and the runtime directory that the launcher was
/// started with; recordings go to the directory that it was started with.
public struct ServeOrder: Hashable, Sendable, Codable {
    /// The TD's: 32 hexadecimal digits.
    public var id: String
    public var backend: TDXDConfiguration.BackendChoice
    public var logLevel: Logger.Level
    public var lastWill: Bool
    public var emulatedLastWill: Bool

    /// - Parameter id: the TD's.
    public init(id: String, _ configuration: TDXDConfiguration) {
        self.id = id
        backend = configuration.backends.backend
        logLevel = configuration.service.logLevel
        lastWill = configuration.teardown.lastWill == .yes
        emulatedLastWill = configuration.backends.emulatedLastWill == .yes
    }

    /// - Throws: which field is out of its range. Values of enumerations are checked where they are decoded.
    func checked() throws(LaunchFlaw) -> Self {
        let isDigit: (UInt8) -> Bool = { (48...57).contains($0) || (97...102).contains($0) }
        guard id.utf8.count == 32, id.utf8.allSatisfy(isDigit) else {
            throw LaunchFlaw(field: "id", value: String(id.prefix(64)), limit: "32 hexadecimal digits")
        }
        return self
    }

    /// The command line of `tdx-holder`, without its name.
    /// - Parameters:
    ///   - holders: the directory of holders' directories.
    ///   - traces: where recordings are made; nil for nowhere.
    public func arguments(holders: String, traces: String?) -> [String] {
        var arguments = [
            "serve", "--directory", "\(holders)/\(id)", "--backend", backend.rawValue,
            "--log-level", logLevel.rawValue,
        ]
        if lastWill { arguments += ["--last-will"] + (emulatedLastWill ? ["--emulated-last-will"] : []) }
        if let traces { arguments += ["--trace", "\(traces)/\(id).jsonl"] }
        return arguments
    }
}

extension TDXDConfiguration.BackendChoice: Codable {}
