internal import HolderLaunch
internal import LinuxSystem
internal import Logging
internal import ServiceSupport

extension HolderProgram {
    /// Starts holders for tdxd until its end of the socket is closed.
    public static func launch(_ options: LauncherOptions) throws(HolderStartError) {
        ServiceLogHandler.bootstrap(identifier: "tdx-holder", level: options.logLevel)
        do throws(LinuxError) { try Launcher.run(options, log: Logger(label: "launcher")) } catch {
            throw HolderStartError(description: "the launcher of holders cannot start: \(error)")
        }
    }
}
