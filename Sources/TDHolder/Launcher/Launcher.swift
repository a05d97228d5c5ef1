internal import HolderLaunch
internal import LinuxSystem
internal import Logging
internal import ServiceSupport
internal import SystemPackage

/// The process that starts holders for tdxd, which may start no program itself. One thread: it waits for requests and for the ends of
/// what it has started, and ends when the socket does, that is with tdxd. What it has started goes on.
///
/// Everything here runs on the thread that calls `run`.
final class Launcher {
    private let options: LauncherOptions
    private let program: String
    private let log: Logger
    private let loop: EventLoop
    private let socket: OwnedDescriptor
    private let signals: SignalSource
    private var watch: EventLoop.Watch?
    /// Key: the process, which keeps its number until it is reaped here; value: the request that started it.
    private var children: [Int32: UInt64] = [:]
    /// What the socket had no room for yet. While there is any, no request is taken: so there is one answer at most, and ends of
    /// children.
    private var unsent: [Message] = []

    private struct Message {
        var bytes: [UInt8]
        var descriptor: RetainedDescriptor?
    }

    /// Locks this process in and serves until the socket ends.
    /// - Throws: when it cannot start: the socket is none, or the kernel refuses the fence or the filter.
    static func run(_ options: LauncherOptions, log: Logger) throws(LinuxError) {
        let launcher = try Launcher(options, log: log)
        try launcher.serve()
    }

    private init(_ options: LauncherOptions, log: Logger) throws(LinuxError) {
        CurrentProcess.setThreadName("tdx-launcher")
        self.options = options
        self.log = log
        socket = OwnedDescriptor(taking: options.socket)
        // Holders inherit nothing of this but what tdxd's own children did.
        try UnixSocket.makeNonBlocking(socket)
        program = try ProgramFiles.own()
        signals = try SignalSource([.child])
        try Signals.ignore(.brokenPipe)
        loop = try EventLoop()
    }

    private func serve() throws(LinuxError) {
        let fence = try LauncherSandbox.fence(options, program: program).enter()
        try LauncherSandbox.filter.load()
        log.info("the launcher of holders is fenced off", metadata: ["landlock": "\(fence)"])
        watch = try loop.watch(socket.rawValue, for: .readable) { [unowned self] _ in exchange() }
        try loop.watch(signals.descriptor.rawValue, for: .readable) { [unowned self] _ in
            while (try? signals.next()) != nil {}
            reap()
            send()
        }
        say(.ready(fence: "\(fence)"))
        send()
        loop.run()
        log.debug("the launcher of holders ends", metadata: ["holders": "\(children.count)"])
    }

    private func exchange() {
        send()
        while unsent.isEmpty {
            do throws(LinuxError) {
                // One byte more than a message may have, so that a longer one is seen to be.
                switch try UnixSocket.receive(
                    upTo: LaunchRequest.limit + 1, maximumDescriptors: 1, from: socket)
                {
                case .wouldBlock: return
                case .endOfStream: return loop.stop()
                case .bytes(let message, let descriptors): take(message, descriptors.takeFirst())
                }
            } catch {
                // More descriptors came than a request has: the message is lost, and whoever sent it hears nothing.
                guard error.errno == .messageTooLong else { return loop.stop() }
                log.warning("a request is dropped", metadata: ["reason": "\(error)"])
            }
            send()
        }
    }

    private func take(_ message: [UInt8], _ descriptor: consuming OwnedDescriptor?) {
        let request: LaunchRequest
        do throws(LaunchFlaw) { request = try LaunchRequest(decoding: message) } catch {
            log.warning("a request is refused", metadata: ["reason": "\(error)"])
            guard let number = LaunchRequest.number(in: message) else { return }
            return say(.refused(number: number, LinuxError("launch", .invalidArgument, detail: "\(error)")))
        }
        do throws(LinuxError) {
            let child = try start(request.order, descriptor)
            children[child.pid] = request.number
            let pid = child.pid
            say(.started(number: request.number, pid: pid), RetainedDescriptor(child.relinquishDescriptor()))
        } catch {
            log.warning("a holder cannot be started", metadata: ["reason": "\(error)"])
            say(.refused(number: request.number, error))
        }
    }

    private func start(
        _ order: LaunchRequest.Order, _ output: consuming OwnedDescriptor?
    ) throws(LinuxError) -> ProcessHandle {
        var start = ProgramStart(
            path: program, environment: LaunchPlaces.environment, workingDirectory: "/", newSession: true)
        switch order {
        case .serve(let order):
            start.arguments = order.arguments(
                holders: LaunchPlaces.holders(in: options.runtimeDirectory), traces: options.traces)
            return try start.start()
        case .probe(let backend): start.arguments = ["probe", "--backend", backend.rawValue, "--json"]
        case .selfTest(let backend): start.arguments = ["selftest", "--backend", backend.rawValue, "--json-lines"]
        }
        guard let output else {
            throw LinuxError("launch", .badFileDescriptor, detail: "the pipe's end is missing")
        }
        start.descriptors = [(source: output.rawValue, target: 1)]
        return try start.start()
    }

    /// Reports the end of every child that has ended.
    private func reap() {
        while let end = try? ProcessHandle.reapAny() {
            guard let number = children.removeValue(forKey: end.pid) else { continue }
            say(.ended(number: number, end.exit))
        }
    }

    private func say(_ answer: LaunchAnswer, _ descriptor: RetainedDescriptor? = nil) {
        unsent.append(Message(bytes: answer.encoded(), descriptor: descriptor))
    }

    /// Sends what there is room for, and waits for room otherwise.
    private func send() {
        while let message = unsent.first {
            do throws(LinuxError) {
                let passed = message.descriptor.map { [$0.rawValue] } ?? []
                guard case .bytes = try UnixSocket.send(message.bytes[...], descriptors: passed, on: socket) else {
                    watch?.change(to: .writable)
                    return
                }
                unsent.removeFirst()
            } catch {
                return loop.stop()
            }
        }
        watch?.change(to: .readable)
    }
}
