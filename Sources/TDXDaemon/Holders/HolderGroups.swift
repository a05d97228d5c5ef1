internal import LinuxSystem
internal import Logging

/// A control group for each holder, by the TD's name, so that `systemd-cgls` and `systemctl status` show TDs and, where the
/// memory controller is there, each one's memory is accounted by itself. Without a delegated group there are none.
struct HolderGroups: Sendable {
    private static let prefix = "td-"

    private let group: DelegatedGroup
    private let log: Logger

    /// Call it before the sandbox is entered.
    /// - Returns: nil where no group is delegated.
    init?(log: Logger) {
        guard let group = DelegatedGroup.ofThisProcess() else { return nil }
        self.group = group
        self.log = log
        let enabled = group.enable(["memory", "pids", "cpu", "misc"])
        log.info(
            "holders get control groups of their own",
            metadata: [
                "directory": "\(group.directory)",
                "controllers": "\(enabled.isEmpty ? "none" : enabled.joined(separator: " "))",
            ])
    }

    /// Moves a holder to the group of its TD. A refusal is logged: the holder then stays where tdxd is.
    func enter(_ pid: Int32, _ name: String) {
        do throws(LinuxError) {
            try group.make(Self.prefix + name)
            try group.move(pid, to: Self.prefix + name)
        } catch {
            log.warning("a holder has no control group of its own", metadata: ["td": "\(name)", "reason": "\(error)"])
        }
    }

    /// The directory of a TD's group, whether it is there or not.
    func directory(of name: String) -> String { "\(group.directory)/\(Self.prefix)\(name)" }

    /// What is still charged to a TD; nil where memory is not accounted by TD.
    func heldMemory(_ name: String) -> HeldMemory? { group.heldMemory(Self.prefix + name) }

    /// Removes a TD's group once its holder has ended.
    func remove(_ name: String) {
        do throws(LinuxError) { try group.remove(Self.prefix + name) } catch {
            log.warning("a control group was not removed", metadata: ["td": "\(name)", "reason": "\(error)"])
        }
    }

    /// Removes groups of TDs that are no more.
    /// - Parameter known: names of TDs that are.
    func sweep(keeping known: Set<String>) {
        for name in group.names where name.hasPrefix(Self.prefix) {
            if !known.contains(String(name.dropFirst(Self.prefix.count))) { try? group.remove(name) }
        }
    }
}
