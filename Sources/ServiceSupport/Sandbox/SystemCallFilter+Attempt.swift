internal import CSeccomp

extension SystemCallFilter {
    /// Makes a system call by name with plain numbers for arguments, to see whether the loaded filter lets it through.
    /// The caller answers for what the call does. Returns its result, or −errno; nil for an unknown name.
    package static func attempt(_ name: String, _ a: UInt64 = 0, _ b: UInt64 = 0, _ c: UInt64 = 0) -> Int? {
        let number = tdxd_seccomp_resolve(name)
        return number >= 0 ? tdxd_seccomp_attempt(number, a, b, c, 0) : nil
    }
}
