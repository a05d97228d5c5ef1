internal import ControlInterface
internal import HostVMs
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization
internal import SystemPackage
internal import Varlink

/// The process `tdxd` from its start to its end: one event loop with the manager.
///
/// Everything here runs on the thread that calls `run`, which becomes the loop's.
public final class Daemon {
    private let options: DaemonOptions
    private let log: Logger
    private let notifier = ServiceNotifier()
    private let loop: EventLoop
    private let manager: Manager
    private let server: VarlinkServer
    private let places: Places
    /// The socket file is ours to remove.
    private var ownsSocket = false
    private var lastStatus = ""
    private var leaving: MonotonicInstant?
    /// Why the process ends with a failure, though in order.
    private var failure: StartFailure?

    /// What `--version` prints.
    public static var version: String { ControlInterfaceVersion.text }

    /// Before anything is opened: what is logged must not go to a file that got the number of a closed standard error.
    public static func openStandardDescriptors() throws(StartFailure) {
        do throws(LinuxError) { _ = try CurrentProcess.openStandardDescriptors() } catch {
            throw StartFailure("\(error)")
        }
    }

    /// Runs the daemon until it is asked to stop.
    /// - Throws: when it cannot start; nothing has been changed then, apart from directories that were made. Or when it had to end,
    ///   having done so in order.
    public static func run(_ options: DaemonOptions) throws(StartFailure) {
        // Its threads come and go with the work, and would leave their fragments in sixteen heaps and more.
        CurrentProcess.limitHeaps(2)
        let configuration = try load(options)
        // Before any thread: signals go to the loop alone, and the filter holds for all.
        let signals: SignalBox
        let loop: EventLoop
        do throws(LinuxError) {
            signals = SignalBox(try SignalSource([.terminate, .interrupt, .hangUp]))
            try Signals.ignore(.brokenPipe)
            try raiseDescriptorLimit()
            loop = try EventLoop()
        } catch {
            throw StartFailure("\(error)")
        }
        let passed = try Sockets.passed()
        ServiceLogHandler.bootstrap(identifier: "tdxd", level: configuration.service.logLevel)
        let places = Places(
            socket: configuration.service.socket, runtimeDirectory: configuration.service.runtimeDirectory,
            stateDirectory: configuration.service.stateDirectory)
        if let flaw = places.flaw { throw StartFailure(flaw, status: 78) }
        do throws(LinuxError) {
            try places.make()
            if let traces = configuration.backends.emulatedTraces { try DirectoryTree.make(traces, mode: 0o700) }
        } catch {
            throw StartFailure("a directory cannot be made: \(error)")
        }
        let lock: RuntimeLock
        do throws(RuntimeLock.Refused) { lock = try RuntimeLock(path: places.lock) } catch {
            throw StartFailure("\(error)")
        }
        let program: HolderProgram
        do throws(LinuxError) { program = try HolderProgram.beside() } catch {
            throw StartFailure("tdx-holder is not beside tdxd: \(error)")
        }
        let groups = HolderGroups(log: Logger(label: "tdxd"))
        let launcher: HolderLauncher
        let procReader: UnsandboxedProcReader
        do throws(LinuxError) {
            // In this process's control group, and before its first thread, its fence and its filter, of which it inherits none.
            launcher = try HolderLauncher(
                starting: program, runtimeDirectory: places.runtimeDirectory,
                traces: configuration.backends.emulatedTraces, logLevel: configuration.service.logLevel.rawValue)
            if passed.sockets.isEmpty, let end = places.socket.lastIndex(of: "/"), end != places.socket.startIndex {
                try DirectoryTree.make(String(places.socket[..<end]), mode: 0o755)
            }
            procReader = try UnsandboxedProcReader()
        } catch {
            throw StartFailure("\(error)")
        }
        let fence = try Sandbox.enter(Sandbox.fence(places, configuration, file: options.configuration))
        let launcherFence: String
        do throws(HolderLauncher.Failure) {
            launcherFence = try launcher.connect(within: Self.launcherPatience)
        } catch {
            throw StartFailure("holders cannot be started: \(error)")
        }
        try Sandbox.narrow()
        let daemon = Daemon(options, configuration, places, launcher, procReader, loop, groups)
        daemon.tell(fence)
        daemon.log.info(
            "the launcher of holders is ready",
            metadata: ["pid": "\(launcher.pid ?? 0)", "landlock": "\(launcherFence)"])
        try daemon.serve(passed, signals)
        _ = consume lock
    }

    /// How long the launcher may take to come up: it is a small program, on a machine that may be busy.
    private static let launcherPatience = Duration.seconds(30)

    /// What `--print-config` prints: every setting, its value, and where it comes from.
    /// - Throws: every mistake of the configuration, a line each; status 78.
    public static func configurationText(_ options: DaemonOptions) throws(StartFailure) -> String {
        try examine(options).text
    }

    private static func examine(_ options: DaemonOptions) throws(StartFailure) -> TDXDConfiguration.Examination {
        let examination = TDXDConfiguration.examine(options.configuration)
        guard examination.mistakes.isEmpty else {
            throw StartFailure(examination.mistakes.map { "\($0)" }.joined(separator: "\ntdxd: "), status: 78)
        }
        return examination
    }

    /// The file's settings with those of the command line over them.
    private static func load(_ options: DaemonOptions) throws(StartFailure) -> TDXDConfiguration {
        var configuration = try examine(options).configuration
        if let socket = options.socket { configuration.service.socket = socket }
        if let directory = options.runtimeDirectory { configuration.service.runtimeDirectory = directory }
        if let directory = options.stateDirectory { configuration.service.stateDirectory = directory }
        return configuration
    }

    /// Duplicates of every shard of every TD need many descriptors.
    private static func raiseDescriptorLimit() throws(LinuxError) {
        let limit = try CurrentProcess.descriptorLimit()
        if limit.soft < limit.hard { try? CurrentProcess.setDescriptorLimit(limit.hard) }
    }

    private init(
        _ options: DaemonOptions, _ configuration: TDXDConfiguration, _ places: Places, _ launcher: HolderLauncher,
        _ procReader: UnsandboxedProcReader, _ loop: EventLoop, _ groups: HolderGroups?
    ) {
        self.options = options
        self.places = places
        self.loop = loop
        log = Logger(label: "tdxd")
        manager = Manager(
            places: places, launcher: launcher, configuration: configuration, procReader: procReader, loop: loop,
            log: log,
            groups: groups)
        let manager = manager
        server = VarlinkServer(
            loop: loop,
            identity: ServiceIdentity(
                vendor: "tdxd", product: "tdxd", version: ControlInterfaceVersion.text,
                url: "https://varlink.org"),
            limits: Self.limits(configuration), refusal: Self.refuse, share: { manager.share(of: $0) })
    }

    private static func limits(_ configuration: TDXDConfiguration) -> VarlinkLimits {
        var limits = VarlinkLimits()
        limits.messageBytes = Int(clamping: configuration.limits.messageSize.rawValue)
        limits.connections = configuration.limits.connections
        limits.connectionsPerUser = configuration.limits.connectionsPerUser
        limits.messageTimeout = min(configuration.deadlines.firstMessage, configuration.deadlines.client)
        limits.stallTimeout = configuration.deadlines.client
        return limits
    }

    /// What a client gets that broke the protocol, or that there are too many of.
    private static let refuse: @Sendable (VarlinkServer.Refusal) -> VarlinkErrorReply = { refusal in
        switch refusal {
        case .violation(let violation):
            ControlError.invalidField(
                field: "message", value: "what was sent", limit: "a varlink call; \(violation.description)"
            ).reply(on: .manager)
        case .tooManyConnections(let limit, let perUser):
            ControlError.tryAgain(
                reason:
                    "there are \(limit) connections\(perUser ? " of one user" : ""), which is the limit for its role"
            ).reply(on: .manager)
        case .notAdmitted(let peer):
            ControlError.notPermitted(
                needed: "a role: observe, operate or admin", reason: "user \(peer.uid) may not connect"
            ).reply(on: .manager)
        case .tooMuchUnread(let limit):
            ControlError.tryAgain(
                reason: "the user's clients have left answers unread; together they may leave \(limit) bytes"
            ).reply(on: .manager)
        }
    }

    // MARK: Serving

    private func serve(
        _ passed: Sockets.Passed, _ signals: SignalBox
    ) throws(StartFailure) {
        watchKernelEvents()
        do throws(LinuxError) { try manager.adoptAll(stored: passed.backing) } catch {
            throw StartFailure("the TDs of a former tdxd cannot be looked for: \(error)")
        }
        manager.resumeDrain()
        let service = ManagerService(manager)
        do {
            try server.register(InterfaceDescription.manager, handlers: service.handlers)
        } catch {
            throw StartFailure("io.tdxd.Manager is not understood: \(error)")
        }
        if passed.sockets.isEmpty { try listen() }
        do throws(LinuxError) {
            for socket in passed.sockets { try server.listen(on: try socket.duplicate()) }
            try watchSignals(signals)
            try watchLauncher()
        } catch {
            throw StartFailure("\(error)")
        }
        let log = log
        server.onClose = { peer, reason in
            switch reason {
            case .peerClosed, .idle, .serverClosed: break
            case .notAdmitted: service.tellRefused("connect", peer)
            default: log.debug("closed a connection", metadata: ["uid": "\(peer.uid)", "reason": "\(reason)"])
            }
        }
        probe()
        loop.schedule(every: .seconds(5)) { [manager] in manager.readDrainAgain() }
        manager.pruneCertificates()
        loop.schedule(every: .seconds(3600)) { [manager] in manager.pruneCertificates() }
        loop.schedule(every: .seconds(2)) { [unowned self] in tellStatus() }
        if let memory = try? ProcessMemory.of() {
            let keeper = HeapKeeper(startingAt: memory.residentAnonymous)
            loop.schedule(every: HeapKeeper.interval) { [manager] in manager.lookers.submit { keeper.tend() } }
        }
        startWatchdog()
        tellStatus()
        tell(.ready)
        log.info(
            "tdxd serves",
            metadata: [
                "socket": "\(passed.sockets.isEmpty ? places.socket : "passed by systemd")",
                "version": "\(ControlInterfaceVersion.text)",
                "tds": "\(manager.summary)",
            ])
        tellUnknownNames()
        if !manager.firmwarePlaces.missing.isEmpty {
            log.notice(
                "firmware cannot lie in directories that are not there",
                metadata: ["directories": "\(manager.firmwarePlaces.missing.joined(separator: ", "))"])
        }
        if !PeerCredentials.kernelHasPIDFD {
            log.notice(
                "this kernel has no SO_PEERPIDFD: a client's process is known by its number, opened with pidfd_open")
        }
        loop.run()
        server.close()
        if ownsSocket { DirectoryTree.removeFile(places.socket) }
        log.info("tdxd has stopped", metadata: ["tds": "\(manager.summary)"])
        if let failure { throw failure }
    }

    private func listen() throws(StartFailure) {
        let socket = try Sockets.own(at: places.socket, mode: manager.configuration.service.socketMode)
        ownsSocket = true
        do throws(LinuxError) { try server.listen(on: socket) } catch { throw StartFailure("\(error)") }
    }

    /// Which backend the host offers, before the first request.
    private func probe() {
        manager.check { [log] answer in
            switch answer {
            case .success(let report):
                log.info(
                    "probed the host",
                    metadata: ["backend": "\(report.backend.rawValue)", "reason": "\(report.reason)"])
            case .failure(let error): log.error("the host cannot be probed", metadata: ["reason": "\(error)"])
            }
        }
    }

    /// KVM's announcements of VMs that come and go. Without them certificates show how else the end is known.
    private func watchKernelEvents() {
        do throws(LinuxError) {
            let source = KernelEventBox(try KernelEventSource())
            let manager = manager
            try loop.watch(source.source.descriptor.rawValue, for: .readable) { _ in
                source.drain(into: manager)
            }
        } catch {
            log.notice("KVM's announcements cannot be received", metadata: ["reason": "\(error)"])
        }
    }

    // MARK: Signals

    private func watchSignals(_ signals: SignalBox) throws(LinuxError) {
        try loop.watch(signals.source.descriptor.rawValue, for: .readable) { [unowned self] _ in
            while let event = try? signals.source.next() { handle(event.signal) }
        }
    }

    private func handle(_ signal: Signal) {
        log.info("received \(signal)")
        if signal == .hangUp { return reload() }
        guard leaving == nil else { return loop.stop() }
        leave(draining: manager.configuration.service.onStop == .drain)
    }

    // MARK: The launcher

    /// Without its launcher tdxd can start no holder, and it cannot start another launcher. So it ends, and the next one has both.
    private func watchLauncher() throws(LinuxError) {
        guard let pidfd = manager.launcher.pidfd else { return }
        var watch: EventLoop.Watch?
        watch = try loop.watch(pidfd, for: .readable) { [unowned self] _ in
            watch?.cancel()
            watch = nil
            let end = manager.launcher.end()
            guard leaving == nil else { return }
            log.critical("the launcher of holders has ended; tdxd ends, and TDs go on", metadata: ["reason": "\(end)"])
            failure = StartFailure("\(HolderLauncher.Failure.ended): \(end)", status: Self.launcherStatus)
            leave(draining: false)
        }
    }

    /// EX_SOFTWARE. No order of an admin's: a service manager starts tdxd again (`Restart=on-failure`).
    private static let launcherStatus: Int32 = 70

    private func reload() {
        tell(.reloading)
        do throws(StartFailure) {
            let configuration = fenced(try Self.load(options))
            manager.core.withLock { $0.configuration = configuration }
            NameNumbers.forget()
            server.dismissThoseWithoutShare()
            log.info("read the configuration again")
            tellUnknownNames()
        } catch {
            log.error("the configuration is not changed", metadata: ["reason": "\(error)"])
        }
        tell(.ready)
    }

    /// The fence stays as it is, and so do the launcher's settings: directories that they would have to know take a restart.
    private func fenced(_ configuration: TDXDConfiguration) -> TDXDConfiguration {
        let old = manager.configuration
        var result = configuration
        result.backends.emulatedTraces = old.backends.emulatedTraces
        result.service.firmwareDirectories = old.service.firmwareDirectories
        if result != configuration {
            log.warning("emulated_traces and firmware_directories change with the next start of tdxd, not before")
        }
        return result
    }

    private func tell(_ fence: FileSystemFence.Outcome) {
        switch fence {
        case .entered(_, let missing):
            log.info(
                "the file system is fenced off",
                metadata: ["landlock": "\(fence)", "missing": "\(missing.joined(separator: " "))"])
        case .unavailable: log.notice("the file system is not fenced off", metadata: ["landlock": "\(fence)"])
        }
    }

    /// A name that this host does not know admits no client, and that is easily overlooked.
    private func tellUnknownNames() {
        let unknown = PeerPolicy(manager.configuration.access, ownUID: manager.ownUID).unknownNames
        guard !unknown.isEmpty else { return }
        log.notice(
            "[access] names whom this host does not know", metadata: ["names": "\(unknown.joined(separator: ", "))"])
    }

    /// How long work that is under way may still take before tdxd leaves it to the next one.
    private static let patience = Duration.seconds(10)

    /// Ends the process.
    /// - Parameter drains: TDs are ended first; otherwise they go on.
    private func leave(draining drains: Bool) {
        leaving = .now
        let configuration = manager.configuration
        tell(.stopping, .status(drains ? "ending every TD" : "stopping; TDs go on"))
        manager.core.withLock { $0.isLeaving = true }
        server.stopListening()
        log.info(
            drains ? "stopping, and ending every TD" : "stopping; TDs go on", metadata: ["tds": "\(manager.summary)"])
        let patience = drains ? configuration.deadlines.drain : Self.patience
        if drains { manager.workers.submit { [manager] in manager.drain(deadline: patience) } }
        let end = MonotonicInstant.now + patience + .seconds(5)
        var wasIdle = false
        loop.schedule(every: .milliseconds(20)) { [unowned self] in
            if drains { tell(.extendTimeout(.seconds(30))) }
            guard MonotonicInstant.now < end else { return loop.stop() }
            // One round more once all is done: what a worker has answered is handed to the loop before it is idle.
            if wasIdle, !server.hasUnsentReplies { return loop.stop() }
            wasIdle = manager.workUnderWay == 0
        }
    }

    // MARK: The service manager

    private func tellStatus() {
        guard leaving == nil else { return }
        let status = manager.summary
        guard status != lastStatus else { return }
        lastStatus = status
        tell(.status(status))
    }

    private func startWatchdog() {
        guard let interval = try? ServiceNotifier.watchdogInterval() else { return }
        // The registry's lock is taken on the way: a loop or registry that hangs is not reported alive.
        loop.schedule(every: interval / 3) { [unowned self] in
            _ = manager.summary
            tell(.watchdog)
        }
    }

    private func tell(_ messages: ServiceNotifier.Message...) {
        for message in messages {
            do throws(LinuxError) { try notifier.send(message) } catch {
                log.warning("sd_notify failed", metadata: ["reason": "\(error)"])
            }
        }
    }
}

/// The source of signals, for a callback to keep.
private final class SignalBox {
    let source: SignalSource

    init(_ source: consuming SignalSource) { self.source = source }
}

/// The source of kernel events, for a callback to keep.
private final class KernelEventBox {
    let source: KernelEventSource

    init(_ source: consuming KernelEventSource) { self.source = source }

    func drain(into manager: Manager) {
        while true {
            do throws(LinuxError) {
                guard let event = try source.next() else { return }
                guard let vm = VMEvent(event) else { continue }
                manager.note(vm, process: vm.kind == .created ? VMEventLog.process(of: vm.creatorPID) : nil)
            } catch {
                manager.noteLostAnnouncements()
                // ENOBUFS comes once; the events after it are still there.
                guard error.errno == .noBufferSpace else { return }
            }
        }
    }
}
