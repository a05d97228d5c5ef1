internal import CSeccomp
public import LinuxSystem
internal import SystemPackage

/// A seccomp filter: what is not listed is refused. Once loaded it holds for every thread of the process, for every
/// thread that it starts later, and for every program that it becomes or starts; nothing takes it away again.
public struct SystemCallFilter: Hashable, Sendable {
    /// What happens to a call that no rule lists.
    public enum Refusal: Hashable, Sendable {
        /// It fails with this errno, usually EPERM.
        case errno(UInt16)
        /// The process is killed by SIGSYS.
        case kill
        /// It is carried out and logged: for finding gaps.
        case log
        /// It is carried out: for a filter that narrows another one by what its rules refuse.
        case none
    }

    public var refusal: Refusal
    public var rules: [SystemCallRule]

    public init(refusing refusal: Refusal = .errno(1), rules: [SystemCallRule]) {
        self.refusal = refusal
        self.rules = rules
    }

    /// Loads the filter into the kernel, with no_new_privs, for all threads at once (SECCOMP_FILTER_FLAG_TSYNC). Calls
    /// that are refused appear in the audit log where the kernel's `actions_logged` has their action.
    /// - Throws: EINVAL where a rule names a call that libseccomp does not know or conditions twice the same; ESRCH
    ///   where a thread has a filter of its own; ENOMEM. On error the process is as before, apart from no_new_privs.
    public func load() throws(LinuxError) {
        guard let filter = seccomp_init(action(refusal)) else {
            throw LinuxError("seccomp_init", .invalidArgument)
        }
        defer { seccomp_release(filter) }
        for rule in rules { try add(rule, to: filter) }
        try LinuxError.check(tdxd_seccomp_load(filter, 1), "seccomp_load")
    }

    private func add(_ rule: SystemCallRule, to filter: UnsafeMutableRawPointer) throws(LinuxError) {
        let action =
            switch rule.verdict {
            case .allow: tdxd_seccomp_allow()
            case .errno(let number): tdxd_seccomp_errno(number)
            }
        for call in rule.calls {
            let number = try Self.number(of: call)
            if rule.conditions.isEmpty {
                try LinuxError.check(
                    tdxd_seccomp_rule(filter, action, number, -1, 0, 0), "seccomp_rule_add", "\(call)")
            }
            for condition in rule.conditions {
                try LinuxError.check(
                    tdxd_seccomp_rule(
                        filter, action, number, Int32(condition.argument), condition.mask, condition.value),
                    "seccomp_rule_add", "\(call), argument \(condition.argument)")
            }
        }
    }

    private static func number(of call: SystemCallRule.Call) throws(LinuxError) -> Int32 {
        switch call {
        case .number(let number): return number
        case .name(let name):
            let number = tdxd_seccomp_resolve(name)
            guard number >= 0 else {
                throw LinuxError("seccomp_syscall_resolve_name", .invalidArgument, detail: name)
            }
            return number
        }
    }

    private func action(_ refusal: Refusal) -> UInt32 {
        switch refusal {
        case .errno(let number): tdxd_seccomp_errno(number)
        case .kill: tdxd_seccomp_kill_process()
        case .log: tdxd_seccomp_log()
        case .none: tdxd_seccomp_allow()
        }
    }
}
