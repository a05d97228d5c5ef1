internal import CSystemd
package import LinuxSystem

/// Where log lines go.
public enum LogDestination: Hashable, Sendable {
    /// The journal's native protocol, with fields.
    case journal
    /// Standard error with `<N>` before each line, which whoever reads it for systemd understands.
    case prefixedStandardError
    /// Standard error with time and level, for people.
    case plainStandardError

    /// The journal where standard error is the journal's stream (JOURNAL_STREAM names it by device and inode); prefixed
    /// where systemd started this very process (SYSTEMD_EXEC_PID) with another standard error; otherwise plain.
    public static func detect() -> LogDestination {
        choose(
            journalStream: environment("JOURNAL_STREAM"), execPID: environment("SYSTEMD_EXEC_PID"),
            standardError: try? FileStatus(ofDescriptor: 2).identity, pid: CurrentProcess.pid)
    }

    package static func choose(
        journalStream: String?, execPID: String?, standardError: FileIdentity?, pid: Int32
    ) -> LogDestination {
        if let standardError, journalStream == "\(standardError.device):\(standardError.inode)" { return .journal }
        return execPID == String(pid) ? .prefixedStandardError : .plainStandardError
    }

    private static func environment(_ name: String) -> String? {
        tdxd_environment(name).map { String(cString: $0) }
    }
}
