internal import ConfidentialMemory
internal import ControlInterface
internal import Glibc
internal import KVM
internal import LinuxSystem
public import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Varlink

/// The settings of `tdx-holder serve`.
public struct HolderOptions: Sendable {
    /// Where the socket is made; it must exist.
    public var directory: String
    public var backend: BackendChoice
    public var emulation: EmulationOptions
    /// How long this process waits for a request to build a TD, and how long it lingers after a failed build.
    public var idleSeconds: Int
    /// Bytes in one punch at the end of the TD, in MiB: 2 to 64, even.
    public var releaseChunkMebibytes: UInt64
    /// The TD is terminated even when this process is killed, where the kernel can.
    public var hasLastWill: Bool
    /// Path of the KVM device.
    public var device: String

    public init(
        directory: String, backend: BackendChoice = .auto, emulation: EmulationOptions = EmulationOptions(),
        idleSeconds: Int = 30, releaseChunkMebibytes: UInt64 = 32, hasLastWill: Bool = false,
        device: String = "/dev/kvm"
    ) {
        self.directory = directory
        self.backend = backend
        self.emulation = emulation
        self.idleSeconds = idleSeconds
        self.releaseChunkMebibytes = releaseChunkMebibytes
        self.hasLastWill = hasLastWill
        self.device = device
    }
}

/// Why a holder could not start.
public struct HolderStartError: Error, Sendable, CustomStringConvertible {
    public var description: String
}

/// The process that owns one TD: a socket, one event loop, two workers.
public final class HolderServer: @unchecked Sendable {
    // Sound: everything mutable is touched on the loop's thread, or before the loop runs.
    private let options: HolderOptions
    private let log: Logger
    private let loop: EventLoop
    private let server: VarlinkServer
    private let holder: Holder
    private let signals: SignalSource
    private let socketPath: String
    private var service: HolderService?
    private var flushDeadline: MonotonicInstant?

    /// Chooses the backend, opens what it needs and listens. Nothing is served before `run()`.
    public init(_ options: HolderOptions, log: Logger) throws(HolderStartError) {
        self.options = options
        self.log = log
        socketPath = options.directory + "/socket"
        do {
            try Self.prepareProcess()
            // Before any thread starts, so that every thread leaves these signals to the loop.
            signals = try SignalSource([.terminate, .interrupt])
            let host = try BackendHost.open(
                options.backend, emulation: options.emulation, device: options.device)
            log.info(
                "backend chosen", metadata: ["backend": "\(host.backend.rawValue)", "why": "\(host.chosen.reason)"])
            // Before fence and filter, which it would inherit; its own leaves it seven calls, none of which opens anything.
            let will = options.hasLastWill ? Self.startLastWill(host, options.directory, log) : nil
            let record = try EndRecord(creating: HolderPlaces.end(in: options.directory), log: log)
            // All that is opened by path is open now, and no thread has been started that goes on.
            let fence = try HolderSandbox.enterFence(directory: options.directory)
            switch fence {
            case .entered: log.info("the file system is fenced off", metadata: ["landlock": "\(fence)"])
            case .unavailable: log.notice("the file system is not fenced off", metadata: ["landlock": "\(fence)"])
            }
            loop = try EventLoop()
            server = VarlinkServer(
                loop: loop,
                identity: ServiceIdentity(
                    vendor: "tdxd", product: "tdx-holder", version: ControlInterfaceVersion.text, url: ""))
            holder = Holder(
                host: host, policy: TeardownPolicy(chunk: .mebibytes(options.releaseChunkMebibytes)), will: will,
                record: record, log: log, reporter: try SerialWorker(named: "reporter"))
            try listen()
        } catch {
            throw HolderStartError(description: "\(error)")
        }
    }

    /// A TD without a last will is as good as one with it until its holder is killed.
    private static func startLastWill(_ host: BackendHost, _ directory: String, _ log: Logger) -> LastWill? {
        guard let order = host.lastWill else { return nil }
        do throws(LinuxError) {
            let will = try LastWill(order, recordAt: HolderPlaces.lastWill(in: directory))
            log.info("last will started", metadata: ["pid": "\(will.pid)", "rehearsal": "\(order.isRehearsal)"])
            return will
        } catch {
            log.warning("there is no last will", metadata: ["reason": "\(error)"])
            return nil
        }
    }

    private func listen() throws {
        let service = HolderService(
            holder: holder, worker: try SerialWorker(named: "worker"), inspector: try SerialWorker(named: "inspector"),
            followers: MapFollowers(holder, loop),
            onFinished: { [unowned self] in
                self.holder.whenReported { self.loop.perform { self.leave() } }
            },
            onBuildFailed: { [unowned self] in self.loop.perform { self.armIdleTimer() } })
        self.service = service
        try server.register(InterfaceDescription.holder, handlers: service.handlers)
        try server.listen(on: UnixSocket.listen(at: socketPath, mode: 0o600))
        try loop.watch(signals.descriptor.rawValue, for: .readable) { [unowned self] _ in self.signalled() }
        armIdleTimer()
    }

    /// Puts the process under the serving filter and serves until the TD has ended. The socket file is gone then.
    public func run() throws(HolderStartError) {
        do {
            try HolderSandbox.install()
        } catch {
            _ = unlink(socketPath)
            throw HolderStartError(description: "\(error)")
        }
        log.info("serving", metadata: ["socket": "\(socketPath)", "pid": "\(CurrentProcess.pid)"])
        loop.run()
        server.close()
    }

    // MARK: Process

    /// This process outlives the one that started it, and of the signals SIGTERM alone ends it.
    private static func prepareProcess() throws(LinuxError) {
        CurrentProcess.setThreadName("tdx-holder")
        _ = umask(0o077)
        // A fresh session unless the starter made one: no terminal's hang-up, no process group's signals.
        _ = setsid()
        try Signals.ignore(.brokenPipe)
        try Signals.ignore(.hangUp)
        // Root's tdxd looks into every /proc entry anyway. An ordinary user's could not look into a process that is not
        // dumpable, and then could not prove who holds a file; guest memory is out of core dumps in either case.
        if CurrentProcess.effectiveUID == 0 { try CurrentProcess.setDumpable(false) }
        // A TD of many shards holds several descriptors each, and GetBacking duplicates them all.
        let limit = try CurrentProcess.descriptorLimit()
        try CurrentProcess.setDescriptorLimit(min(limit.hard, max(limit.soft, 4096)))
    }

    private func signalled() {
        guard let event = try? signals.next() else { return }
        log.notice(
            "asked to end by a signal", metadata: ["signal": "\(event.signal)", "sender": "\(event.senderPID)"])
        service?.stopUnasked()
    }

    // MARK: End

    private func armIdleTimer() {
        loop.schedule(after: .seconds(options.idleSeconds)) { [unowned self] in
            guard self.holder.mayExitIdle else { return }
            self.log.notice("nobody has built a TD; leaving", metadata: ["seconds": "\(self.options.idleSeconds)"])
            self.leave()
        }
    }

    /// Nothing more to do: no new clients, and the process ends when the last answer is on its way, or five seconds
    /// later where a client does not read.
    private func leave() {
        guard flushDeadline == nil else { return }
        flushDeadline = .now.adding(milliseconds: 5000)
        server.stopListening()
        _ = unlink(socketPath)
        holder.removeEmptyRecord()
        leaveWhenFlushed()
    }

    private func leaveWhenFlushed() {
        guard let flushDeadline, server.hasUnsentReplies, MonotonicInstant.now < flushDeadline else {
            return loop.stop()
        }
        loop.schedule(after: .milliseconds(5)) { [unowned self] in self.leaveWhenFlushed() }
    }
}
