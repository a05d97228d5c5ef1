internal import ArgumentParser
internal import ControlInterface
internal import Varlink

struct OkCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "ok", abstract: "Shows what this host offers to TDs. Changes nothing.")

    @Flag(help: "Exit with status 1 if any check fails.")
    var strict = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let report = try context.withManager { client throws(VarlinkClientError) in
            try client.call(ManagerInterface.Check.method, as: HostReport.self, timeout: .seconds(60))
        }
        context.show(
            HostReportRecord(report), text: render(report, context.console.style))
        return strict && report.checks.contains { $0.result == .fail } ? .failed : .ok
    }
}

/// The report with `hint` always there.
struct HostReportRecord: Encodable {
    var backend: Backend
    var emulated: Bool
    var reason: String
    var checks: [JSONValue]

    init(_ report: HostReport) {
        backend = report.backend
        emulated = report.emulated
        reason = report.reason
        checks = report.checks.map { completed($0, as: "HostCheck") }
    }
}
