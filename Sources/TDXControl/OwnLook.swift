internal import ControlInterface
internal import HostVMs
internal import LinuxSystem
internal import MemoryUnits

extension ManagerInterface.CheckKexec.Reply {
    /// Where tdxd could not see what other programs' VMs hold, and tdxctl runs as root: tdxctl looks through /proc itself.
    /// tdxd's own TDs need no leaving out: as long as there is one, another check fails.
    /// - Parameter look: for tests.
    mutating func lookAtOtherVMs(
        isRoot: Bool = CurrentProcess.effectiveUID == 0, look: () -> HostVMs? = { try? HostVMs.look() }
    ) {
        guard isUnknown, isRoot, let index = checks.firstIndex(where: { $0.name == Self.otherVMs }), let seen = look()
        else { return }
        let found = seen.processes.filter(\.isConfidential)
        guard found.isEmpty else {
            checks[index].result = .fail
            checks[index].evidence =
                found.map(\.words).joined(separator: "; ") + " (tdxctl looked through /proc itself)"
            checks[index].hint = "tdxd does not manage them: end them by the program that runs them"
            return
        }
        guard seen.isComplete else { return }
        checks[index].result = .pass
        checks[index].evidence =
            "none of \(counted(seen.processesSeen, "process", plural: "processes")) holds a guest_memfd "
            + "(tdxctl looked through /proc itself)"
        checks[index].hint = nil
        safe = !checks.contains { $0.result == .fail }
    }
}
