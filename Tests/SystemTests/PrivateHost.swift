import ControlInterface
import Glibc
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import Testing
import Varlink

/// A tdxd of a test's own in a temporary directory, and everything that it leaves, which goes with this object.
final class PrivateHost: Sendable {
    let directory: String
    private let process = Mutex<Tdxd?>(nil)

    /// A tdxd process that this test started.
    final class Tdxd: Sendable {
        let handle: ProcessHandle
        init(_ handle: consuming ProcessHandle) { self.handle = handle }
        var pid: Int32 { handle.pid }
    }

    struct NotServing: Error, CustomStringConvertible {
        var description: String
    }

    var socket: String { directory + "/socket" }
    var runtime: String { directory + "/run" }
    var state: String { directory + "/state" }
    var log: String { (try? TextFile.read(directory + "/log")) ?? "" }

    /// - Parameter settings: lines of the configuration behind those of its section [backend].
    /// - Parameter otherVMs: other tests' VMs are on this host, too.
    init(
        backend: String = "memfd", onStop: String = "keep", otherVMs: String = "ignore", settings: String = "",
        start: Bool = true
    ) throws {
        var template = Array("/tmp/tdxd-sys.XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw LinuxError("mkdtemp", Errno(rawValue: errno)) }
        directory = String(cString: made)
        // Other users are tried, too.
        chmod(directory, 0o755)
        try configure(backend: backend, onStop: onStop, otherVMs: otherVMs, settings: settings)
        if start { try self.start() }
    }

    deinit {
        kill(.kill)
        for pid in holders { Glibc.kill(pid, SIGKILL) }
        _ = eventually(within: 30) { holders.isEmpty }
        Self.remove(directory)
    }

    func configure(
        backend: String = "memfd", onStop: String = "keep", otherVMs: String = "ignore", settings: String = ""
    ) throws {
        // A machine that runs other tests beside this one, or emulates its processor, is no host of a guest.
        let patience = settings.contains("holder_start") ? "" : "[deadlines]\nholder_start = 2min\n"
        let text =
            "[service]\non_stop = \(onStop)\nother_vms = \(otherVMs)\nlog_level = debug\n"
            + "\(patience)[backend]\nbackend = \(backend)\n\(settings)\n"
        unlink(directory + "/tdxd.conf")
        let file = try openForAppending(directory + "/tdxd.conf")
        let bytes = Array(text.utf8)
        guard write(file.rawValue, bytes, bytes.count) == bytes.count else {
            throw LinuxError("write", Errno(rawValue: errno), detail: "the configuration")
        }
    }

    // MARK: tdxd

    var arguments: [String] {
        [
            "--config", directory + "/tdxd.conf", "--socket", socket, "--runtime-directory", runtime,
            "--state-directory", state,
        ]
    }

    /// Starts tdxd and waits until it answers.
    /// - Parameters:
    ///   - manager: hears from it, and passes what it has stored.
    ///   - group: the directory of the control group that it runs in; nil for the test's.
    ///   - descriptorLimit: its RLIMIT_NOFILE.
    func start(under manager: StandInManager? = nil, in group: String? = nil, descriptorLimit: Int? = nil) throws {
        try startWithoutWaiting(under: manager, in: group, descriptorLimit: descriptorLimit)
        let tdxd = try process.withLock { process in try #require(process) }
        // A child of a killed tdxd has its listening socket for a moment longer: that one connects, and never answers.
        _ = eventually { isServing || (try? tdxd.handle.hasEnded()) != false }
        guard isServing else { throw NotServing(description: self.log) }
    }

    func startWithoutWaiting(
        under manager: StandInManager? = nil, in group: String? = nil, descriptorLimit: Int? = nil
    ) throws {
        let log = try openForAppending(directory + "/log")
        var program = ProgramStart(
            path: Programs.tdxd, arguments: arguments, environment: ["PATH=/usr/bin:/bin"],
            descriptors: [(source: log.rawValue, target: 1), (source: log.rawValue, target: 2)])
        let stored = manager?.stored ?? []
        if let manager {
            // LISTEN_PID must be the number of the process, which a shell that becomes it knows.
            let names = stored.map(\.name).joined(separator: ":")
            let passing = "LISTEN_PID=$$ LISTEN_FDS=\(stored.count) LISTEN_FDNAMES=\(names) "
            program = ProgramStart(
                path: "/bin/sh",
                arguments: ["-c", (stored.isEmpty ? "" : passing) + "exec \"$0\" \"$@\"", Programs.tdxd] + arguments,
                environment: ["PATH=/usr/bin:/bin", "NOTIFY_SOCKET=\(manager.path)"],
                descriptors: program.descriptors
                    + stored.enumerated().map { (source: $1.descriptor.rawValue, target: Int32(3 + $0)) })
        }
        if let group {
            program = ProgramStart(
                path: "/bin/sh",
                arguments: ["-c", "echo $$ >\"$0\" && exec \"$@\"", group + "/cgroup.procs", Programs.tdxd] + arguments,
                environment: program.environment, descriptors: program.descriptors)
        }
        if let descriptorLimit {
            program.arguments =
                ["-c", "ulimit -n \(descriptorLimit); exec \"$0\" \"$@\"", program.path] + program.arguments
            program.path = "/bin/sh"
        }
        let tdxd = Tdxd(try withExtendedLifetime(stored) { try program.start() })
        process.withLock { $0 = tdxd }
    }

    /// Whether a call is answered, be it by a refusal.
    private var isServing: Bool {
        guard let client = try? client() else { return false }
        do {
            let _: NoParameters = try client.call("org.varlink.service.GetInfo", timeout: .seconds(30))
            return true
        } catch {
            if case .reply = error { return true }
            return false
        }
    }

    var pid: Int32 { process.withLock { $0?.pid ?? 0 } }

    func signal(_ signal: Signal) { process.withLock { try? $0?.handle.send(signal) } }

    /// Waits for tdxd's end.
    func waitForEnd() throws -> ProcessExit? {
        let tdxd = process.withLock { process in
            defer { process = nil }
            return process
        }
        return try tdxd?.handle.wait()
    }

    /// Sends a signal and waits for the end.
    @discardableResult
    func kill(_ signal: Signal) -> ProcessExit? {
        self.signal(signal)
        return try? waitForEnd()
    }

    // MARK: What it has

    /// Holders that were started with a directory of this host, by number.
    var holders: [Int32] {
        let pids = ((try? TextFile.list("/proc")) ?? []).compactMap { Int32($0) }
        return pids.filter { pid in
            guard let line = try? TextFile.read("/proc/\(pid)/cmdline", limit: 64 << 10) else { return false }
            return line.contains("tdx-holder") && line.contains(runtime + "/holders/")
        }.sorted()
    }

    /// Directories of TDs that are left.
    var holderDirectories: [String] { (try? TextFile.list(runtime + "/holders")) ?? [] }

    var certificateFiles: [String] { ((try? TextFile.list(state + "/certificates")) ?? []).sorted() }

    /// Nothing of any TD is left on the host: no process, no directory, and no descriptor of one in tdxd.
    func leavesNothing() -> Bool { holders.isEmpty && holderDirectories.isEmpty && backingDescriptors == 0 }

    /// Descriptors of guest memory that tdxd has open.
    var backingDescriptors: Int {
        let names = (try? TextFile.list("/proc/\(pid)/fd")) ?? []
        return names.count { name in
            let target = (try? TextFile.linkTarget("/proc/\(pid)/fd/\(name)")) ?? ""
            return target.contains("memfd") || target.contains("guest_memfd")
        }
    }

    // MARK: Clients

    @discardableResult
    func tdxctl(_ arguments: String...) throws -> Finished {
        try runProgram(Programs.tdxctl, arguments, environment: ["TDXD_SOCKET": socket], in: directory)
    }

    func client() throws -> VarlinkClient { try VarlinkClient.connect(socket, timeout: .seconds(30)) }

    func create(_ name: String, mebibytes: UInt64 = 64, vcpus: Int = 1, firmware: String? = nil) throws -> TrustDomain {
        let reply: ManagerInterface.Create.Reply = try client().call(
            ManagerInterface.Create.method,
            ManagerInterface.Create.Parameters(
                name: name, memoryBytes: mebibytes << 20, vcpus: vcpus, firmware: firmware), timeout: .seconds(300))
        return try #require(reply.domain)
    }

    func list() throws -> [TrustDomain] {
        let reply: ManagerInterface.List.Reply = try client().call(ManagerInterface.List.method, timeout: .seconds(60))
        return reply.domains
    }

    func show(_ name: String) throws -> TrustDomain {
        let reply: ManagerInterface.Show.Reply = try client().call(
            ManagerInterface.Show.method, ManagerInterface.Show.Parameters(name: name), timeout: .seconds(60))
        return reply.domain
    }

    func stop(_ name: String) throws -> TeardownCertificate {
        try stop(ManagerInterface.Stop.Parameters(name: name))
    }

    func stop(_ parameters: ManagerInterface.Stop.Parameters) throws -> TeardownCertificate {
        let reply: ManagerInterface.Stop.Reply = try client().call(
            ManagerInterface.Stop.method, parameters, timeout: .seconds(300))
        return try #require(reply.certificate)
    }

    func reclaim(_ name: String, bytesPerSecond: Int64? = nil) throws -> TeardownCertificate {
        let reply: ManagerInterface.Reclaim.Reply = try client().call(
            ManagerInterface.Reclaim.method,
            ManagerInterface.Reclaim.Parameters(name: name, bytesPerSecond: bytesPerSecond), timeout: .seconds(300))
        return try #require(reply.certificate)
    }

    /// Makes a TD's private memory resident as its guest would by using it, through tdxd's duplicates of memfds.
    /// - Returns: Bytes that are resident now.
    @discardableResult
    func makeResident(_ bytes: UInt64) throws -> UInt64 {
        var left = Int64(bytes)
        for name in try TextFile.list("/proc/\(pid)/fd") {
            let path = "/proc/\(pid)/fd/\(name)"
            guard left > 0, let target = try? TextFile.linkTarget(path), target.contains("memfd") else { continue }
            let file = open(path, O_RDWR | O_CLOEXEC)
            guard file >= 0 else { continue }
            defer { close(file) }
            var status = Glibc.stat()
            guard fstat(file, &status) == 0 else { continue }
            let share = min(left, Int64(status.st_size))
            let refusal = posix_fallocate(file, 0, off_t(share))
            guard refusal == 0 else { throw LinuxError("posix_fallocate", Errno(rawValue: refusal)) }
            left -= share
        }
        return bytes - UInt64(max(left, 0))
    }

    func convert(
        _ name: String, gpa: UInt64, bytes: UInt64, to side: MemorySide
    ) throws -> ManagerInterface.Convert.Reply {
        try client().call(
            ManagerInterface.Convert.method,
            ManagerInterface.Convert.Parameters(name: name, gpa: gpa, bytes: bytes, to: side), timeout: .seconds(300))
    }

    private static func remove(_ path: String) {
        for name in (try? TextFile.list(path)) ?? [] {
            let entry = path + "/" + name
            if let status = try? FileStatus(ofPath: entry, followingLinks: false), status.kind == .directory {
                remove(entry)
            } else {
                unlink(entry)
            }
        }
        rmdir(path)
    }
}

/// The error that a call of the interface ends with; nil when it ends well.
func refusal(_ body: () throws -> Void) -> ControlError? {
    do {
        try body()
        return nil
    } catch let error as VarlinkClientError {
        guard case .reply(let reply) = error else {
            Issue.record("no reply: \(error)")
            return nil
        }
        return ControlError(reply)
    } catch {
        Issue.record("\(error)")
        return nil
    }
}
