internal import HolderLaunch
public import Logging

/// How the launcher of holders is started. It takes nothing of this from a request.
public struct LauncherOptions: Sendable {
    /// Holders' directories are in `holders` below it.
    public var runtimeDirectory: String
    /// Where recordings are made; nil for nowhere.
    public var traces: String?
    public var logLevel: Logger.Level
    /// The number of its socket.
    public var socket: Int32

    /// - Parameter runtimeDirectory: an absolute path.
    public init(runtimeDirectory: String, traces: String? = nil, logLevel: Logger.Level = .info) {
        self.runtimeDirectory = runtimeDirectory
        self.traces = traces
        self.logLevel = logLevel
        socket = LaunchPlaces.socket
    }
}
