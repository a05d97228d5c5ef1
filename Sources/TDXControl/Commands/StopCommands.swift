internal import ArgumentParser
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Varlink

/// How memory comes back.
struct ReleaseOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What comes back a second at most, such as 500M (1M to 1T), so that neighbours keep their memory bandwidth.",
            valueName: "size"), transform: parsePace)
    var rate: UInt64?

    @Option(
        help: ArgumentHelp(
            "What one punch gives back: 2M to 64M, a multiple of 2M. A punch cannot be interrupted.", valueName: "size"),
        transform: parseChunk)
    var chunk: UInt64?
}

struct StopCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Ends a TD and proves that its memory and key are free.",
        discussion: """
            The exit status is 1 if the certificate is not complete, and 75 if the deadline passed first: the end goes on, \
            and “tdxctl certificate show” tells of it. What was asked to wait (policy deferred, --wait stopped) is no \
            failure.
            """)

    @Argument(help: "The TD's name.", transform: parseName)
    var name: String

    @Option(
        help: ArgumentHelp(
            """
            auto, terminate-first (refuse where the kernel cannot), dynamic-removal, or deferred: its memory comes back \
            later, by “tdxctl reclaim” or at --rate (default: as tdxd is configured).
            """, valueName: "policy"), completion: .list(StopPolicy.allCases.map(\.rawValue)), transform: parsePolicy)
    var policy: StopPolicy?

    @OptionGroup var release: ReleaseOptions

    @Option(
        help: ArgumentHelp(
            "When the answer comes at the latest, such as 90s or 2h; until then proofs are repeated.",
            valueName: "time"), transform: parseDeadline)
    var deadline: UInt64?

    @Option(
        help: ArgumentHelp(
            "proven: until the end is proven. stopped: until the TD runs no more; its memory follows.",
            valueName: "what"), completion: .list(StopWait.allCases.map(\.rawValue)), transform: parseWait)
    var wait: StopWait?

    @Flag(help: "Only show what would be done.")
    var dryRun = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        guard !dryRun else { return try plan(context) }
        let certificate = try context.follow(
            "stop \(name)", ManagerInterface.Stop.method,
            ManagerInterface.Stop.Parameters(
                name: name, policy: policy?.rawValue, bytesPerSecond: release.rate.map { Int64(clamping: $0) },
                chunkBytes: release.chunk.map { Int64(clamping: $0) },
                deadlineMilliseconds: deadline.map { Int64(clamping: $0) },
                wait: wait?.rawValue), as: ManagerInterface.Stop.Reply.self, progress: \.progress, result: \.certificate
        )
        context.show(
            completed(certificate, as: "Certificate"), text: render(certificate, context.console.style))
        guard certificate.pending != nil, certificate.failure == nil else {
            return certificate.complete ? .ok : .failed
        }
        return deadline != nil && wait != .stopped && policy != .deferred ? .tryAgain : .ok
    }

    private func plan(_ context: Context) throws(Failure) -> ExitStatus {
        let plan = try context.withManager { client throws(VarlinkClientError) in
            try client.call(
                ManagerInterface.PlanStop.method,
                ManagerInterface.PlanStop.Parameters(name: name, policy: policy?.rawValue),
                as: ManagerInterface.PlanStop.Reply.self, timeout: .seconds(300))
        }
        context.show(StopPlanRecord(plan), text: render(plan, context.console.style))
        return .ok
    }
}

struct ReclaimCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "reclaim",
        abstract: "Gives the memory of stopped TDs back that “stop --policy deferred” holds.",
        discussion: """
            For memory that is on its way already, the rate is changed. The exit status is 1 if a certificate is not \
            complete.
            """)

    @Argument(help: "The TDs' names.", transform: parseName)
    var names: [String] = []

    @Flag(help: "All TDs whose memory is held or on its way.")
    var all = false

    @OptionGroup var release: ReleaseOptions
    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        guard all != !names.isEmpty else { throw ValidationError("either TDs by name, or --all") }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var certificates: [TeardownCertificate] = []
        for name in all ? try draining(context) : names {
            do throws(Failure) {
                let certificate = try reclaim(name, context)
                certificates.append(certificate)
                if context.json == .off { context.console.write(render(certificate, context.console.style)) }
            } catch {
                // It may be gone by now, or wait for a proof and not for this.
                let isOver = [".WrongState", ".NoSuchDomain"].contains { error.code.hasSuffix($0) }
                guard all, isOver else { throw error }
            }
        }
        if context.json != .off {
            context.show(certificates.map { completed($0, as: "Certificate") }, text: "")
        } else if certificates.isEmpty {
            context.console.write("No memory is held.\n")
        }
        return certificates.allSatisfy(\.complete) ? .ok : .failed
    }

    private func reclaim(_ name: String, _ context: Context) throws(Failure) -> TeardownCertificate {
        try context.follow(
            "reclaim \(name)", ManagerInterface.Reclaim.method,
            ManagerInterface.Reclaim.Parameters(
                name: name, bytesPerSecond: release.rate.map { Int64(clamping: $0) },
                chunkBytes: release.chunk.map { Int64(clamping: $0) }),
            as: ManagerInterface.Reclaim.Reply.self, progress: \.progress, result: \.certificate)
    }

    private func draining(_ context: Context) throws(Failure) -> [String] {
        try context.withManager { client throws(VarlinkClientError) in
            try client.call(ManagerInterface.List.method, as: ManagerInterface.List.Reply.self).domains
        }.filter { $0.state == .draining }.map(\.name).sorted()
    }
}
