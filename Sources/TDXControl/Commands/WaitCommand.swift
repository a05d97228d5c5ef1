internal import ArgumentParser
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Varlink

/// What `tdxctl wait` waits for.
enum WaitGoal: String, CaseIterable, Sendable {
    /// The TD runs no more; its memory may still be the TD's.
    case stopped
    /// Its end is over, and every proof holds: memory and key id are the host's again.
    case proven
}

struct WaitCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait", abstract: "Waits until TDs have stopped, or until their ends are proven.",
        discussion: """
            For an end that another client began, or whose “tdxctl stop” was interrupted. The exit status is 0 when all of them \
            are there, 1 if an end is over and not proven, 3 for a TD that is not known, 75 if the timeout passed first. \
            It changes nothing; a TD that no client stops is waited for.
            """)

    @OptionGroup var selection: DomainSelection

    @Option(
        help: ArgumentHelp(
            "stopped: until they run no more. proven: until memory and key ids are free (default).", valueName: "what"),
        completion: .list(WaitGoal.allCases.map(\.rawValue)), transform: parseCase("goal"))
    var until = WaitGoal.proven

    @Option(
        help: ArgumentHelp("Wait no longer than that, such as 90s or 2h.", valueName: "time"),
        transform: parseTime)
    var timeout: CreationWait?

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    /// How often tdxd is asked.
    static let interval: UInt64 = 200

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let names = try selection.names(context)
        let start = MonotonicInstant.now
        var listed = Dictionary(
            try context.domains().map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        let ids = names.reduce(into: [String: String]()) { $0[$1] = listed[$1]?.id }
        var open = names
        while true {
            open.removeAll { name in
                guard let domain = listed[name], ids[name] == nil || domain.id == ids[name] else { return true }
                return hasArrived(domain)
            }
            guard !open.isEmpty else { break }
            if let timeout, (MonotonicInstant.now - start).milliseconds >= Double(timeout.rawValue) {
                throw Failure(
                    status: .tryAgain, code: "timed_out",
                    message: "not \(until.rawValue) yet: "
                        + open.map { "\($0) (\(listed[$0]?.state.rawValue ?? "unknown"))" }.joined(separator: ", "),
                    hint: "“tdxctl show” has the reason")
            }
            CurrentThread.sleep(milliseconds: Self.interval)
            listed = Dictionary(try context.domains().map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        }
        return context.forEach(names) { name throws(Failure) in
            // A TD that is not listed has ended, or there never was one: its certificate knows.
            if let domain = listed[name], ids[name] == domain.id, until == .stopped { return .ok }
            let certificate = try context.withManager { client throws(VarlinkClientError) in
                try client.call(
                    ManagerInterface.GetCertificate.method,
                    ManagerInterface.GetCertificate.Parameters(
                        certificate: TrustDomainName(unchecked: ids[name] ?? name)),
                    as: ManagerInterface.GetCertificate.Reply.self
                ).certificate
            }
            guard until == .proven, !certificate.complete else { return .ok }
            context.console.writeError(summary(of: certificate, context.console.style))
            return .failed
        }
    }

    private func hasArrived(_ domain: TrustDomain) -> Bool {
        switch (until, domain.state) {
        case (_, .failed): true
        case (.stopped, .draining): true
        case (.stopped, .building), (.stopped, .runnable), (.stopped, .stopping): false
        case (.proven, .building), (.proven, .runnable), (.proven, .stopping), (.proven, .draining): false
        }
    }
}
