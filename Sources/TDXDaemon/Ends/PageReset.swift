internal import ControlInterface
internal import LinuxSystem

/// Who rewrites pages that are taken from a TD before somebody else uses them. It is never tdxd: what KVM takes back it holds until
/// it has freed it, and rewrites it then itself, with 64-byte direct stores, where a smaller write would poison it.
/// Source: reference/kvm.md §4.7.
enum PageReset {
    /// Whether this CPU has the partial-write erratum; nil where /proc/cpuinfo does not tell.
    static let hostHasErratum = (try? ProcessorInformation.ofHost())?.hasPartialWriteErratum

    /// For a plan and a certificate.
    static func words(_ backend: Backend, hasErratum: Bool?) -> String {
        guard !backend.isEmulated else {
            return "none: the TDX module is emulated, and its private pages are ordinary memory"
        }
        return switch hasErratum {
        case true?:
            "by the kernel, for each page that it takes from the TD, since this CPU has the partial-write erratum; tdxd neither does nor "
                + "sees it"
        case false?: "none: this CPU does not have the partial-write erratum, and the kernel leaves it out"
        case nil:
            "not known: the kernel does it where the CPU has the partial-write erratum, which /proc/cpuinfo does not tell"
        }
    }
}
