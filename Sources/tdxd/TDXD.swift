import ArgumentParser
import Glibc
import TDXDaemon

/// The manager of a host's trust domains.
@main
struct TDXD: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tdxd",
        abstract: "Owns the memory of this host's confidential VMs (TDX trust domains, TDs).",
        discussion: """
            Serves io.tdxd.Manager on a Unix socket, and runs a tdx-holder for each TD. SIGTERM ends it; whether TDs \
            go on or are ended first is on_stop in the configuration. SIGHUP reads the configuration again.
            """,
        version: Daemon.version)

    @Option(help: ArgumentHelp("Read this instead of /etc/tdxd/tdxd.conf.", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("Where clients connect; sockets that systemd passes come first.", valueName: "path"))
    var socket: String?

    @Option(help: ArgumentHelp("Holders' sockets, which must outlive tdxd.", valueName: "directory"))
    var runtimeDirectory: String?

    @Option(help: ArgumentHelp("Certificates, the oldest of which go as configured.", valueName: "directory"))
    var stateDirectory: String?

    @Flag(help: "Only check the configuration: print every mistake, and exit with status 78 if there is one.")
    var checkConfig = false

    @Flag(help: "Only print the configuration: every setting with its value, and the file and line that set it.")
    var printConfig = false

    func run() throws {
        let options = DaemonOptions(
            configuration: config, socket: socket.map(absolute), runtimeDirectory: runtimeDirectory.map(absolute),
            stateDirectory: stateDirectory.map(absolute))
        do throws(StartFailure) {
            try Daemon.openStandardDescriptors()
            if checkConfig || printConfig {
                let text = try Daemon.configurationText(options)
                print(printConfig ? text : "The configuration is valid.\n", terminator: "")
                return
            }
            try Daemon.run(options)
        } catch {
            let line = Array("tdxd: \(error)\n".utf8)
            _ = write(2, line, line.count)
            throw ExitCode(error.status)
        }
    }

    /// A path as the shell that started us meant it, without a slash at its end.
    private func absolute(_ path: String) -> String {
        var result = path
        if !path.hasPrefix("/"), let directory = getcwd(nil, 0) {
            result = String(cString: directory) + "/" + path
            free(directory)
        }
        while result.count > 1, result.hasSuffix("/") { result.removeLast() }
        return result
    }
}
