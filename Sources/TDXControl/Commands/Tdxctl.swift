internal import ArgumentParser
internal import ControlInterface
internal import LinuxSystem
internal import Varlink

/// The root of the command line.
struct Tdxctl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tdxctl", abstract: "Creates, shows, converts and ends the trust domains (TDs) of this host.",
        discussion: """
            Exit status: 0 ok, 1 failed, 2 usage, 3 no such TD or certificate, 4 not permitted, 5 no capacity (key ids, \
            memory), 6 unknown, 69 tdxd is not available, 75 try again.
            """,
        version: ControlInterfaceVersion.text,
        subcommands: [
            OkCommand.self, CreateCommand.self, ListCommand.self, ShowCommand.self, ConvertCommand.self,
            RunCommand.self, MapCommand.self, ConversionsCommand.self, VerifyCommand.self, KeysCommand.self,
            StopCommand.self,
            ReclaimCommand.self, WaitCommand.self,
            DrainCommand.self, KexecCommand.self, InventoryCommand.self, MetricsCommand.self,
            CertificateCommand.self,
            SelfTestCommand.self, EstimateCommand.self, ExplainCommand.self, ModelCommand.self, TraceCommand.self,
            VersionCommand.self,
        ])

    @OptionGroup var options: GlobalOptions
}

/// A command of tdxctl.
protocol ControlCommand: ParsableCommand {
    var options: GlobalOptions { get }
    var root: Tdxctl { get }
    func execute(_ context: Context) throws(Failure) -> ExitStatus
    /// How tdxctl exits; another number than an `ExitStatus` where a program of the user's decides.
    func status(_ context: Context) throws(Failure) -> Int32
}

extension ControlCommand {
    func status(_ context: Context) throws(Failure) -> Int32 { try execute(context).rawValue }
}

extension Context {
    /// Connects to tdxd and runs `body`; every way in which a call can go wrong becomes a `Failure`.
    func withManager<Result>(
        _ body: (VarlinkClient) throws(VarlinkClientError) -> Result
    ) throws(Failure) -> Result {
        do throws(VarlinkClientError) {
            // The map of a large fragmented TD is long, and tdxd is trusted to send no more than that.
            var limits = VarlinkLimits()
            limits.messageBytes = 1 << 30
            return try body(try VarlinkClient.connect(socket, limits: limits))
        } catch {
            throw Failure(error)
        }
    }

    /// Shows a reply: as JSON where that is asked for, otherwise as text.
    func show(_ value: @autoclosure () -> some Encodable, text: @autoclosure () -> String) {
        console.write(json == .off ? text() : TDXControl.json(value(), json))
    }

    /// With JSON: the documents of TDs as an array, or the only one by itself; nothing where the only one failed.
    func showDocuments(_ documents: [JSONValue], isSingle: Bool) {
        guard json != .off else { return }
        if !isSingle {
            show(documents, text: "")
        } else if let only = documents.first {
            show(only, text: "")
        }
    }

    /// Calls a method that reports progress; gives what `result` finds in the last reply.
    /// - Parameters:
    ///   - descriptor: goes with the call.
    ///   - showsProgress: whether standard error gets a bar, or lines where it is not a terminal.
    func follow<Reply: Decodable, Result>(
        _ title: String, _ method: String, _ parameters: some Encodable, as type: Reply.Type,
        descriptor: RetainedDescriptor? = nil, showsProgress: Bool = true, progress: (Reply) -> Progress?,
        result: (Reply) -> Result?
    ) throws(Failure) -> Result {
        var bar = ProgressBar(
            title: title, isTerminal: console.errorIsTerminal, width: console.width, now: .now)
        defer { if showsProgress { console.writeError(bar.finish()) } }
        var found: Result?
        try withManager { client throws(VarlinkClientError) in
            // Long work may be silent for long: memory of terabytes, a busy host.
            defer { withExtendedLifetime(descriptor) {} }
            let descriptors = descriptor.map { [$0.rawValue] } ?? []
            try client.callMore(
                method, parameters, as: type, descriptors: descriptors, timeout: .seconds(300)
            ) { reply, isLast in
                if showsProgress, let news = progress(reply) { console.writeError(bar.update(news, now: .now)) }
                if isLast { found = result(reply) }
            }
        }
        guard let found else { throw Failure(.protocolViolation("the last reply has no result")) }
        return found
    }
}
