internal import Glibc
internal import HolderLaunch
internal import LinuxSystem
internal import SystemPackage

/// tdxd's end of the launcher of holders: tdxd starts no program itself once it is locked in, it asks the launcher to.
///
/// From any thread. A thread of its own reads the launcher's answers.
final class HolderLauncher: Sendable {
    /// Why nothing was started.
    enum Failure: Error, Hashable, Sendable, CustomStringConvertible {
        /// Nothing will be any more: this tdxd cannot start another launcher.
        case ended
        /// It did not answer in that time. What it may have started nevertheless is killed when it reports it.
        case silent(Duration)
        /// The launcher refused, or a system call here failed.
        case refused(LinuxError)
        /// It sent a malformed message.
        case senseless(LaunchFlaw)

        var description: String {
            switch self {
            case .ended: "the launcher of holders has ended"
            case .silent(let limit): "the launcher of holders does not answer in \(limit.inWords)"
            case .refused(let error): "\(error)"
            case .senseless(let flaw): "the launcher of holders is not understood: \(flaw)"
            }
        }
    }

    private let wire: LauncherWire
    /// Nil where the launcher is supervised elsewhere.
    private let process: Child?

    private final class Child: Sendable {
        let handle: ProcessHandle
        init(_ handle: consuming ProcessHandle) { self.handle = handle }
    }

    /// Starts the launcher. It belongs before the filter, the fence and every thread of tdxd's: the launcher has its own, and inherits
    /// none. Killed with the calling thread, which must be the process's first.
    /// - Parameters:
    ///   - runtimeDirectory: where holders' directories are.
    ///   - traces: where recordings are made; nil for nowhere.
    ///   - logLevel: of the launcher itself, by name.
    convenience init(
        starting program: HolderProgram, runtimeDirectory: String, traces: String?, logLevel: String
    ) throws(LinuxError) {
        let pair = try UnixSocket.packetPair()
        let start = ProgramStart(
            path: program.path,
            arguments: ["launch", "--runtime-directory", runtimeDirectory, "--log-level", logLevel]
                + (traces.map { ["--traces", $0] } ?? []),
            environment: LaunchPlaces.environment, workingDirectory: "/",
            descriptors: [(source: pair.second.rawValue, target: LaunchPlaces.socket)], newSession: true,
            parentDeathSignal: .kill)
        let child = Child(try start.start())
        self.init(pair.takeFirst(), child)
    }

    /// - Parameter socket: connected to a launcher that is supervised elsewhere.
    convenience init(socket: consuming OwnedDescriptor) { self.init(socket, nil) }

    private init(_ socket: consuming OwnedDescriptor, _ process: Child?) {
        wire = LauncherWire(socket)
        self.process = process
    }

    deinit { wire.close() }

    /// Begins to listen to the launcher, and waits until it is fenced in and takes requests.
    /// - Returns: what came of its fence, in words.
    func connect(within limit: Duration) throws(Failure) -> String {
        let wire = wire
        do throws(LinuxError) { _ = try SystemThread(name: "launcher") { wire.listen() } } catch {
            throw .refused(error)
        }
        return try wire.ready(within: limit)
    }

    /// The launcher's number; nil where it is supervised elsewhere.
    var pid: Int32? { process?.handle.pid }

    /// Becomes readable when the launcher has ended.
    var pidfd: Int32? { process?.handle.descriptor.rawValue }

    /// No holder can be started any more.
    var hasEnded: Bool { wire.hasEnded }

    /// How it ended, in words, once its pidfd is readable; it is reaped then. From now on nothing is asked of it.
    func end() -> String {
        wire.close()
        guard let process, let exit = try? process.handle.exitIfEnded() else { return "it closed its socket" }
        return "process \(process.handle.pid) \(exit)"
    }

    /// Has something started.
    /// - Parameters:
    ///   - descriptor: its standard output.
    ///   - limit: how long the launcher may take.
    func launch(
        _ order: LaunchRequest.Order, output descriptor: Int32? = nil, within limit: Duration
    ) throws(Failure) -> HolderProcess {
        try wire.ask(order, descriptor, within: limit)
    }
}

/// The program `tdx-holder`.
struct HolderProgram: Sendable {
    /// An absolute path.
    let path: String

    /// `tdx-holder` beside the running program.
    static func beside(executable link: String = "/proc/self/exe") throws(LinuxError) -> Self {
        let plain = try ProgramFiles.own(link: link)
        let directory = plain.lastIndex(of: "/").map { String(plain[..<$0]) } ?? ""
        let program = directory + "/tdx-holder"
        guard access(program, X_OK) == 0 else {
            throw LinuxError("access", Errno(rawValue: errno), detail: program)
        }
        return Self(path: program)
    }
}
