internal import ArgumentParser
internal import ControlInterface
internal import TDXStatusCodes
internal import Varlink

struct ExplainCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Explains a status of the TDX module. Needs no daemon.")

    @Argument(
        help: "The 64-bit status, such as 0xc000030000000001, or its name, such as OPERAND_BUSY.",
        transform: { text in
            guard let status = parseStatus(text) else {
                throw ValidationError(
                    "“\(printable(text))” is not a 64-bit status (up to 16 hexadecimal digits) and not the name of one")
            }
            return status
        })
    var status: TDXStatus

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let explanation = status.explain()
        context.show(ExplanationRecord(explanation), text: render(explanation, context.console.style))
        return .ok
    }
}

struct VersionCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Shows the versions of tdxctl and of the tdxd that answers.")

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var daemon: ServiceInfo?
        var absence = ""
        do {
            daemon = try context.withManager { client throws(VarlinkClientError) in
                try client.call("org.varlink.service.GetInfo", as: ServiceInfo.self, timeout: .seconds(5))
            }
        } catch {
            // Not to be running is an answer here, not a failure.
            absence = error.message
        }
        let daemonText = daemon.map { "\(printable($0.product)) \(printable($0.version)) at \(context.socket)" }
        context.show(
            VersionRecord(tdxctl: ControlInterfaceVersion.text, tdxd: daemon?.version),
            text: "tdxctl \(ControlInterfaceVersion.text)\n" + (daemonText ?? printable(absence)) + "\n")
        return .ok
    }
}

/// `tdxctl version --json`
struct VersionRecord: Encodable {
    var tdxctl: String
    var tdxd: String?

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(tdxctl, forKey: .tdxctl)
        try container.encode(tdxd, forKey: .tdxd)
    }

    enum CodingKeys: String, CodingKey { case tdxctl, tdxd }
}
