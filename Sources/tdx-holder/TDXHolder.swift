import ArgumentParser
import ControlInterface
import TDHolder

/// The process that owns one trust domain. tdxd starts it; people rarely do.
@main
struct TDXHolder: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tdx-holder", abstract: "Owns one trust domain (TD) on behalf of tdxd.",
        version: ControlInterfaceVersion.text,
        subcommands: [
            Serve.self, Launch.self, Probe.self, SelfTestCommand.self, TraceReplayCommand.self, SandboxCheck.self,
        ])
}

/// Options that every command shares.
struct BackendOption: ParsableArguments {
    @Option(help: "auto, tdx, software_protected, guest_memfd or memfd.", transform: parseBackend)
    var backend: BackendChoice = .auto

    @Option(help: ArgumentHelp("Path of the KVM device.", visibility: .hidden))
    var kvmDevice = "/dev/kvm"
}

@Sendable
private func parseBackend(_ text: String) throws -> BackendChoice {
    guard let choice = BackendChoice(parsing: text) else {
        throw ValidationError("unknown backend “\(text)”; use auto, tdx, software_protected, guest_memfd or memfd.")
    }
    return choice
}
