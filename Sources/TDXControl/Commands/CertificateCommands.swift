internal import ArgumentParser
internal import ControlInterface
internal import Varlink

struct CertificateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "certificate", abstract: "Shows the certificates of TDs that have ended.",
        subcommands: [CertificateListCommand.self, CertificateShowCommand.self])
}

struct CertificateListCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the certificates that are kept, the latest first.")

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let certificates = try context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.ListCertificates.method, as: ManagerInterface.ListCertificates.Reply.self
            ).certificates
        }
        context.show(
            certificates.map { completed($0, as: "CertificateSummary") },
            text: render(certificates, context.console.style))
        return .ok
    }
}

struct CertificateShowCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Shows one certificate in full.",
        discussion: "Of several TDs of one name the latest is meant. The exit status is 1 if it is not complete.")

    @Argument(help: "The TD's name or id.", transform: parseTerm)
    var certificate: TrustDomainName

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let found = try context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.GetCertificate.method,
                ManagerInterface.GetCertificate.Parameters(certificate: certificate),
                as: ManagerInterface.GetCertificate.Reply.self
            ).certificate
        }
        context.show(completed(found, as: "Certificate"), text: render(found, context.console.style))
        guard found.pending == nil || found.failure != nil else { return .tryAgain }
        return found.complete ? .ok : .failed
    }
}
