internal import LinuxSystem

/// What the files of a host show that matters to kexec.
struct KexecReadings: Hashable, Sendable {
    /// /sys/kernel/kexec_loaded; nil where it cannot be read.
    var isImageLoaded: Bool?
    /// /sys/kernel/kexec_crash_loaded; nil where it cannot be read.
    var isCrashKernelLoaded: Bool?
    /// /sys/kernel/kexec_crash_size in bytes; nil where it cannot be read.
    var crashBytes: UInt64?
    /// X86_BUG_TDX_PW_MCE, in the bugs line of /proc/cpuinfo; nil where that cannot be read.
    var hasPartialWriteErratum: Bool?
    /// The host has the TDX module up, or KVM was set to use it; nil where /sys does not show it.
    var usesTDX: Bool?
    /// Such as 7.2.0.
    var kernelRelease: String?

    init(
        isImageLoaded: Bool? = nil, isCrashKernelLoaded: Bool? = nil, crashBytes: UInt64? = nil,
        hasPartialWriteErratum: Bool? = nil, usesTDX: Bool? = nil, kernelRelease: String? = nil
    ) {
        self.isImageLoaded = isImageLoaded
        self.isCrashKernelLoaded = isCrashKernelLoaded
        self.crashBytes = crashBytes
        self.hasPartialWriteErratum = hasPartialWriteErratum
        self.usesTDX = usesTDX
        self.kernelRelease = kernelRelease
    }

    /// Reads the host's.
    /// - Parameter root: in front of every path, for tests.
    static func read(root: String = "") -> Self {
        func word(_ path: String) -> String? {
            guard let text = try? TextFile.read(root + path, limit: 4096) else { return nil }
            return text.split(whereSeparator: \.isWhitespace).first.map { String($0) }
        }
        let processor = (try? TextFile.read(root + "/proc/cpuinfo")).map { ProcessorInformation(parsing: $0) }
        let hasModule = (try? TextFile.list(root + "/sys/devices/faux/tdx_host")) != nil
        let usesTDX = hasModule || word("/sys/module/kvm_intel/parameters/tdx") == "Y"
        // What is absent counts only where it would be seen.
        let isVisible = (try? TextFile.list(root + "/sys/module")) != nil
        return Self(
            isImageLoaded: word("/sys/kernel/kexec_loaded").map { $0 != "0" },
            isCrashKernelLoaded: word("/sys/kernel/kexec_crash_loaded").map { $0 != "0" },
            crashBytes: word("/sys/kernel/kexec_crash_size").flatMap { UInt64($0) },
            hasPartialWriteErratum: processor?.hasPartialWriteErratum,
            usesTDX: usesTDX ? true : isVisible ? false : nil,
            kernelRelease: word("/proc/sys/kernel/osrelease"))
    }

    /// Kernels before 7.2 refuse to load an image on a CPU with the erratum where TDX is on (reference: kvm.md §4.8);
    /// nil where release or CPU are not known.
    var kernelRefusesToLoad: Bool? {
        guard usesTDX != false else { return false }
        guard usesTDX != nil, let hasPartialWriteErratum, let shutsModuleDown else { return nil }
        return hasPartialWriteErratum && !shutsModuleDown
    }

    /// Kernels from 7.2 on disable the TDX module and flush the caches before a kexec, and disable it in a crash, too
    /// (reference: kvm.md §4.8); nil where the release is not known. What earlier ones do is not described there.
    var shutsModuleDown: Bool? {
        let numbers = (kernelRelease ?? "").split(separator: ".").prefix(2).compactMap { part in
            Int(part.prefix { $0.isNumber })
        }
        guard numbers.count == 2 else { return nil }
        return (numbers[0], numbers[1]) >= (7, 2)
    }
}

extension ProcessorInformation {
    /// The erratum of TDX hosts by which a small write to private memory poisons it.
    var hasPartialWriteErratum: Bool { bugs.contains("tdx_pw_mce") }
}
