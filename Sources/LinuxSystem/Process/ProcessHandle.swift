internal import CLinux
internal import SystemPackage

/// How a process ended.
public enum ProcessExit: Hashable, Sendable {
    case exited(status: Int32)
    case killed(by: Signal, coreDumped: Bool)
}

extension ProcessExit: CustomStringConvertible {
    public var description: String {
        switch self {
        case .exited(let status): "exited with status \(status)"
        case .killed(let signal, let dumped): "killed by \(signal)" + (dumped ? ", core dumped" : "")
        }
    }
}

/// A process held by pidfd: the number cannot come to mean another process. It need not be a child.
///
/// The descriptor becomes readable when the process has ended.
public struct ProcessHandle: ~Copyable, Sendable {
    public let pid: Int32
    public let descriptor: OwnedDescriptor

    /// pidfd_open(2).
    /// - Throws: ESRCH when no such process exists.
    public init(pid: Int32) throws(LinuxError) {
        self.pid = pid
        descriptor = OwnedDescriptor(taking: try LinuxError.check(tdxd_pidfd_open(pid), "pidfd_open", "pid \(pid)"))
    }

    /// Takes over a pidfd that another process opened and passed on.
    /// - Parameter pid: the number of its process, as its opener knows it.
    public init(pid: Int32, taking descriptor: consuming OwnedDescriptor) {
        self.pid = pid
        self.descriptor = descriptor
    }

    /// Gives the pidfd away.
    public consuming func relinquishDescriptor() -> OwnedDescriptor { descriptor }

    /// Reaps any child of this process that has ended; nil when there is none. Whoever waits for a child elsewhere
    /// misses it then.
    public static func reapAny() throws(LinuxError) -> (pid: Int32, exit: ProcessExit)? {
        var raw = tdxd_child_exit()
        do throws(LinuxError) {
            try LinuxError.retrying("waitid(P_ALL)") { tdxd_wait_any(&raw) }
        } catch {
            guard error.errno == .noChildProcess else { throw error }
            return nil
        }
        return raw.pid == 0 ? nil : (raw.pid, ProcessExit(raw))
    }

    /// pidfd_send_signal(2).
    /// - Throws: ESRCH when the process has ended.
    public func send(_ signal: Signal) throws(LinuxError) {
        try LinuxError.check(
            tdxd_pidfd_send_signal(descriptor.rawValue, signal.rawValue), "pidfd_send_signal", "\(signal) to pid \(pid)"
        )
    }

    /// Waits for a child and reaps it: waitid(P_PIDFD).
    /// - Throws: ECHILD when the process is not a child of this one, or was reaped before.
    public func wait() throws(LinuxError) -> ProcessExit {
        while true {
            if let exit = try wait(noHang: false) { return exit }
        }
    }

    /// Reaps a child that has ended; nil while it runs.
    public func exitIfEnded() throws(LinuxError) -> ProcessExit? { try wait(noHang: true) }

    /// Whether the process has ended, child or not. A child that has ended and is not reaped counts as ended.
    public func hasEnded() throws(LinuxError) -> Bool {
        let ready = try LinuxError.retrying("poll(pidfd)") { tdxd_poll_readable(descriptor.rawValue, 0) }
        return ready != 0
    }

    /// Waits until the process has ended, child or not, without reaping it.
    /// - Parameter milliseconds: how long at most.
    /// - Returns: false when it still runs.
    public func waitUntilEnded(milliseconds: Int32) throws(LinuxError) -> Bool {
        let deadline = MonotonicInstant.now.adding(milliseconds: Double(milliseconds))
        while true {
            let left = max(0, deadline.milliseconds(since: .now)).rounded(.up)
            let ready = tdxd_poll_readable(descriptor.rawValue, Int32(left))
            if ready == -Errno.interrupted.rawValue { continue }
            return try LinuxError.check(ready, "poll(pidfd)") != 0
        }
    }

    /// pidfd_getfd(2): a duplicate of another process's descriptor. Needs the right to trace the process.
    public func duplicateDescriptor(_ number: Int32) throws(LinuxError) -> OwnedDescriptor {
        OwnedDescriptor(
            taking: try LinuxError.check(
                tdxd_pidfd_getfd(descriptor.rawValue, number), "pidfd_getfd", "descriptor \(number) of pid \(pid)"))
    }

    private func wait(noHang: Bool) throws(LinuxError) -> ProcessExit? {
        var raw = tdxd_child_exit()
        try LinuxError.retrying("waitid(P_PIDFD)", "pid \(pid)") {
            tdxd_wait_pidfd(descriptor.rawValue, noHang ? 1 : 0, 0, &raw)
        }
        return raw.pid == 0 ? nil : ProcessExit(raw)
    }
}

extension ProcessExit {
    fileprivate init(_ raw: tdxd_child_exit) {
        // CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3.
        self =
            raw.code == 1
            ? .exited(status: raw.status) : .killed(by: Signal(rawValue: raw.status), coreDumped: raw.code == 3)
    }
}
