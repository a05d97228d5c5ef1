/// Whether this process sees the processes of other users in /proc at all: hidepid (proc(5)), as systemd's ProtectProc=
/// mounts it, leaves them out of every list, and a look through /proc then proves nothing about them.
public enum ProcessVisibility {
    /// True where /proc is mounted so that other users' processes are not even listed, and this process may not look
    /// it all (CAP_SYS_PTRACE). True also where it cannot be read how /proc is mounted.
    public static func othersAreHidden(procDirectory: String = "/proc") -> Bool {
        guard let mounts = try? TextFile.read("\(procDirectory)/self/mountinfo") else { return true }
        guard hidesOthers(mountInfo: mounts) else { return false }
        let status = (try? TextFile.read("\(procDirectory)/self/status", limit: 64 << 10)) ?? ""
        return !mayTrace(status: status)
    }

    /// Reads the text of /proc/self/mountinfo: the last mount on /proc counts. hidepid 2 and 4, or by name invisible
    /// and ptraceable, leave processes out; 1 and noaccess only keep them closed.
    static func hidesOthers(mountInfo: String) -> Bool {
        let lines = mountInfo.split(separator: "\n").filter { line in
            let words = line.split(separator: " ")
            return words.count > 4 && words[4] == "/proc"
        }
        guard let options = lines.last?.split(separator: " ").last else { return false }
        return options.split(separator: ",").contains { option in
            ["hidepid=2", "hidepid=4", "hidepid=invisible", "hidepid=ptraceable"].contains(option)
        }
    }

    /// Reads the text of /proc/self/status: CAP_SYS_PTRACE is bit 19 of the effective set.
    static func mayTrace(status: String) -> Bool {
        for line in status.split(separator: "\n") where line.hasPrefix("CapEff:") {
            let digits = line.dropFirst(7).drop { $0 == "\t" || $0 == " " }
            return (UInt64(digits, radix: 16) ?? 0) & (1 << 19) != 0
        }
        return false
    }
}
