internal import ArgumentParser
internal import ControlInterface
internal import MemoryUnits
internal import Varlink

struct EstimateCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "estimate",
        abstract: "Estimates by a model how long the end of a TD takes on hardware. Needs no daemon.",
        discussion: """
            The model is fitted to posted times of TDX hosts. Without --terminate both ways to end a TD are shown. Where a \
            daemon answers, what its certificates say of ends on this host is shown below, as what it is: measured, on the \
            backend that it names.
            """)

    enum Terminate: String, CaseIterable, ExpressibleByArgument {
        case yes, no
    }

    @Option(
        help: ArgumentHelp("The TD's resident private memory, such as 400G (powers of 1,024).", valueName: "size"),
        transform: parseBytes)
    var memory: MemorySize

    @Option(help: ArgumentHelp("How many virtual CPUs it has.", valueName: "count"))
    var vcpus = 1

    @Flag(help: "The CPU has the partial-write erratum: the kernel resets every reclaimed page.")
    var erratum = false

    @Option(help: "Whether the kernel has KVM_TDX_TERMINATE_VM: yes or no.")
    var terminate: Terminate?

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        guard (1...4096).contains(vcpus) else {
            throw ValidationError("--vcpus is \(vcpus): it must be from 1 to 4096")
        }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let paths: [TeardownModel.Path] =
            switch terminate {
            case .yes: [.terminateFirst]
            case .no: [.dynamicRemoval]
            case nil: TeardownModel.Path.allCases
            }
        var estimate = TeardownEstimate(memory: memory.bytes, vcpus: vcpus, erratum: erratum, paths: paths)
        // It is left out where no daemon runs, or one hangs.
        let kept = try? context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.ListCertificates.method, as: ManagerInterface.ListCertificates.Reply.self,
                timeout: .seconds(2))
        }
        estimate.history = TeardownHistory.of(kept?.certificates ?? [], memory: memory.bytes)
        context.show(estimate, text: render(estimate, context.console.style))
        return .ok
    }
}
