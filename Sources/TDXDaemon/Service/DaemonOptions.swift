/// What the command line of `tdxd` sets; nil leaves it to the configuration.
public struct DaemonOptions: Hashable, Sendable {
    /// The configuration file; nil for the system's, which may be missing.
    public var configuration: String?
    public var socket: String?
    public var runtimeDirectory: String?
    public var stateDirectory: String?

    public init(
        configuration: String? = nil, socket: String? = nil, runtimeDirectory: String? = nil,
        stateDirectory: String? = nil
    ) {
        self.configuration = configuration
        self.socket = socket
        self.runtimeDirectory = runtimeDirectory
        self.stateDirectory = stateDirectory
    }
}

/// Why the daemon does not start, or had to end, in one sentence.
public struct StartFailure: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
    /// As sysexits.h has it: 78 for a bad configuration, 70 for a launcher that has ended, 1 otherwise.
    public var status: Int32

    init(_ description: String, status: Int32 = 1) {
        self.description = description
        self.status = status
    }
}
