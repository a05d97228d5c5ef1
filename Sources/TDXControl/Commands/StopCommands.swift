internal import ArgumentParser
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
internal import Varlink

/// How memory comes back.
struct ReleaseOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What comes back a second at most, such as 500M (1M to 1T), so that neighbours keep their memory bandwidth.",
            valueName: "size"), transform: parseLimitedBytes)
    var rate: ReleaseRate?

    @Option(
        help: ArgumentHelp(
            "What one punch gives back: 2M to 64M, a multiple of 2M. A punch cannot be interrupted.", valueName: "size"),
        transform: parseLimitedBytes)
    var chunk: ReleaseChunk?
}

struct StopCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Ends TDs and proves that their memory and keys are free.",
        discussion: """
            Prints a line for each TD; --verbose prints the whole certificate, and “tdxctl certificate show” has it later. \
            Several TDs are ended side by side; one that cannot be ended does not keep the others. The exit status is 1 \
            if a certificate is not complete, and 75 if the deadline passed first: the end goes on, and “tdxctl wait” \
            waits for it. What was asked to wait (policy deferred, --wait stopped) is no failure. With JSON one TD by its \
            name or id is an object; several, a pattern or --all are an array.
            """)

    /// TDs that are ended at the same time; tdxd gives one user more places than that.
    static let sideBySide = 8

    @OptionGroup var selection: DomainSelection

    @Option(
        help: ArgumentHelp(
            """
            auto, terminate-first (refuse where the kernel cannot), dynamic-removal, or deferred: its memory comes back \
            later, by “tdxctl reclaim” or at --rate (default: as tdxd is configured).
            """, valueName: "policy"), completion: .list(StopPolicy.allCases.map(\.rawValue)), transform: parseChoice)
    var policy: StopPolicy?

    @OptionGroup var release: ReleaseOptions

    @Option(
        help: ArgumentHelp(
            "When the answer comes at the latest, such as 90s or 2h; until then proofs are repeated.",
            valueName: "time"), transform: parseTime)
    var deadline: EndDeadline?

    @Option(
        help: ArgumentHelp(
            "proven: until the end is proven. stopped: until the TD runs no more; its memory follows.",
            valueName: "what"), completion: .list(StopWait.allCases.map(\.rawValue)), transform: parseChoice)
    var wait: StopWait?

    @Flag(help: "Only show what would be done.")
    var dryRun = false

    @Flag(name: .shortAndLong, help: "Print certificates in full.")
    var verbose = false

    @Flag(name: .shortAndLong, help: "Print errors alone.")
    var quiet = false

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func validate() throws {
        guard !(verbose && quiet) else { throw ValidationError("--verbose and --quiet exclude each other") }
    }

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let names = try selection.names(context)
        guard !dryRun else { return plan(names, context) }
        guard !selection.isSingle else { return try end(names[0], context, showsProgress: true) { show($0, context) } }
        let documents = Mutex<[(name: String, document: JSONValue)]>([])
        let statuses = Mutex<[String: ExitStatus]>([:])
        // Answers come in the order in which TDs end; each is written whole.
        let output = Mutex(())
        concurrently(names, atMost: Self.sideBySide) { name in
            let status: ExitStatus
            do throws(Failure) {
                status = try end(name, context, showsProgress: false) { certificate in
                    if context.json == .off {
                        output.withLock { _ in show(certificate, context) }
                    } else {
                        let document = completed(certificate, as: "Certificate")
                        documents.withLock { $0.append((name, document)) }
                    }
                }
            } catch {
                output.withLock { _ in context.tell(error) }
                status = error.status
            }
            statuses.withLock { $0[name] = status }
        }
        let found = documents.withLock { $0 }.sorted { precedesNaturally($0.name, $1.name) }.map(\.document)
        context.showDocuments(found, isSingle: false)
        let ended = statuses.withLock { $0 }
        return names.lazy.compactMap { ended[$0] }.first { $0 != .ok } ?? .ok
    }

    private func end(
        _ name: String, _ context: Context, showsProgress: Bool, _ show: (TeardownCertificate) -> Void
    ) throws(Failure) -> ExitStatus {
        let certificate = try context.follow(
            "stop \(name)", ManagerInterface.Stop.method,
            ManagerInterface.Stop.Parameters(
                name: TrustDomainName(unchecked: name), policy: policy, bytesPerSecond: release.rate,
                chunkBytes: release.chunk, deadlineMilliseconds: deadline, wait: wait),
            as: ManagerInterface.Stop.Reply.self, showsProgress: showsProgress, progress: \.progress,
            result: \.certificate)
        show(certificate)
        guard certificate.pending != nil, certificate.failure == nil else {
            return certificate.complete ? .ok : .failed
        }
        return deadline != nil && wait != .stopped && policy != .deferred ? .tryAgain : .ok
    }

    private func show(_ certificate: TeardownCertificate, _ context: Context) {
        guard context.json == .off else {
            return context.show(completed(certificate, as: "Certificate"), text: "")
        }
        guard !quiet else { return }
        let style = context.console.style
        context.console.write(verbose ? render(certificate, style) : summary(of: certificate, style))
    }

    private func plan(_ names: [String], _ context: Context) -> ExitStatus {
        var documents: [JSONValue] = []
        let status = context.forEach(names) { name throws(Failure) in
            let plan = try context.withManager { client throws(VarlinkClientError) in
                try client.call(
                    ManagerInterface.PlanStop.method,
                    ManagerInterface.PlanStop.Parameters(name: TrustDomainName(unchecked: name), policy: policy),
                    as: ManagerInterface.PlanStop.Reply.self, timeout: .seconds(300))
            }
            guard context.json == .off else {
                documents.append(plainDocument(StopPlanRecord(plan)))
                return .ok
            }
            context.console.write(render(plan, context.console.style))
            return .ok
        }
        context.showDocuments(documents, isSingle: selection.isSingle)
        return status
    }
}

/// Runs `body` for each item on threads of its own, so many at a time, and waits until all have ended.
func concurrently<Item: Sendable>(_ items: [Item], atMost limit: Int, _ body: @Sendable @escaping (Item) -> Void) {
    let next = Atomic(0)
    let work = { @Sendable in
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard index < items.count else { return }
            body(items[index])
        }
    }
    // This thread works, too: where no other can be started it does all of it.
    let others = (1..<max(1, min(limit, items.count))).compactMap { _ in try? SystemThread(name: "tdxctl", work) }
    work()
    for thread in others { thread.join() }
}

struct ReclaimCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "reclaim",
        abstract: "Gives the memory of stopped TDs back that “stop --policy deferred” holds.",
        discussion: """
            For memory that is on its way already, the rate is changed. The exit status is 1 if a certificate is not \
            complete.
            """)

    @OptionGroup var selection: DomainSelection

    @OptionGroup var release: ReleaseOptions
    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        var certificates: [TeardownCertificate] = []
        for name in try selection.names(context, where: { $0.state == .draining }) {
            do throws(Failure) {
                let certificate = try reclaim(name, context)
                certificates.append(certificate)
                if context.json == .off { context.console.write(render(certificate, context.console.style)) }
            } catch {
                // It may be gone by now, or wait for a proof and not for this.
                let isOver = [".WrongState", ".NoSuchDomain"].contains { error.code.hasSuffix($0) }
                guard selection.all, isOver else { throw error }
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
                name: TrustDomainName(unchecked: name), bytesPerSecond: release.rate, chunkBytes: release.chunk),
            as: ManagerInterface.Reclaim.Reply.self, progress: \.progress, result: \.certificate)
    }
}
