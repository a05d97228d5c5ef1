/// How tdxctl ends. The numbers are part of its interface.
enum ExitStatus: Int32, CaseIterable, Sendable {
    case ok = 0
    case failed = 1
    /// The command line, or a value on it, is not acceptable.
    case usage = 2
    /// Or no such certificate.
    case noSuchDomain = 3
    case notPermitted = 4
    /// No key id or not enough memory.
    case capacity = 5
    /// The answer cannot be known, such as whether other programs' VMs have private memory.
    case unknown = 6
    /// EX_UNAVAILABLE of sysexits.h.
    case daemonUnavailable = 69
    /// EX_TEMPFAIL of sysexits.h.
    case tryAgain = 75
}
