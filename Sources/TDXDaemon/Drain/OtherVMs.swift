internal import ControlInterface
internal import HostVMs
internal import LinuxSystem
internal import MemoryUnits

/// What is known of VMs that are not tdxd's: whether one of them has private memory. Pure: it follows from what was read.
struct OtherVMs {
    enum Verdict: Hashable {
        /// There is none, and how that is known.
        case none(String)
        /// There are some: each in words.
        case some([String])
        /// It cannot be known, and why. Never taken for none.
        case unknown(String)
    }

    /// From one look through /proc, without tdxd's own processes; nil where /proc could not be listed.
    let look: HostVMs?
    /// From KVM's announcements.
    let census: VMCensus.Others
    /// Key ids that the kernel charges to others on a host with TDX; nil where that cannot be read, or does not apply.
    let othersKeyIDs: UInt64?

    /// Processes that were seen to hold memory which may be private.
    var confidential: [VMProcess] { look?.processes.filter(\.isConfidential) ?? [] }

    var verdict: Verdict {
        guard confidential.isEmpty else { return .some(confidential.map(\.words)) }
        if let look, look.isComplete {
            return .none("none of \(look.processesSeen) other processes holds a guest_memfd")
        }
        if let othersKeyIDs {
            return othersKeyIDs == 0
                ? .none("the kernel charges every key id that is taken to a TD of tdxd")
                : .some([
                    "\(counted(Int(clamping: othersKeyIDs), "TD")) of other programs, by the key ids charged to them"
                ])
        }
        switch census {
        case .exactly(0): return .none("KVM counts no VM but tdxd's")
        case .exactly(let count):
            return .unknown("\(counted(Int(clamping: count), "VM")) of other programs; \(notSeen)")
        case .unknown(let reason): return .unknown("\(reason); \(notSeen)")
        }
    }

    private var notSeen: String {
        guard let look else { return "/proc cannot be listed" }
        if look.othersAreHidden { return "/proc hides other users' processes from tdxd" }
        return "\(counted(look.unseen.count, "process", plural: "processes")) of other users could not be looked into"
    }

    /// What a purpose that needs an empty host must wait for, in words.
    var blockers: [String] {
        switch verdict {
        case .none: []
        case .some(let found): found
        case .unknown(let reason): ["whether other programs' VMs have private memory is unknown: \(reason)"]
        }
    }

    var check: HostCheck {
        let (result, evidence, hint): (CheckResult, String, String?) =
            switch verdict {
            case .none(let evidence): (.pass, evidence, nil)
            case .some(let found):
                (
                    .fail, found.joined(separator: "; "),
                    "tdxd does not manage them: end them by the program that runs them"
                )
            case .unknown(let reason):
                (
                    .skip, reason,
                    "root's tdxctl looks by itself; the drop-in see-all-processes.conf lets tdxd look"
                )
            }
        return HostCheck(
            name: ManagerInterface.CheckKexec.Reply.otherVMs, title: "Other VMs", result: result, evidence: evidence,
            hint: hint)
    }
}
