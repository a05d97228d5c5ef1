internal import CLinux
internal import ControlInterface
internal import Glibc
internal import LinuxSystem
internal import MemoryUnits

/// Whether another kernel may be started now. Pure: it follows from what was read.
struct KexecVerdict {
    let inventory: Inventory
    let host: KexecReadings
    let backend: Backend
    let drain: DrainRecord?
    /// Nil where the configuration leaves other VMs out.
    let others: OtherVMs?
    /// Bytes a second at which this host writes memory, measured just now on one CPU; nil where it was not.
    let writeRate: Double?
    let memory: ByteCount?

    private var hasPrivateMemory: Bool { inventory.privateBytes > 0 || inventory.convertingBytes > 0 }
    private var hasDomains: Bool { inventory.building + inventory.running + inventory.ending > 0 }

    var checks: [HostCheck] {
        [domains, otherVMs, pages, keys, proofs, erratum, kernel, image, crashKernel].compactMap { $0 }
    }

    private var otherVMs: HostCheck? { others?.check }

    private func check(
        _ name: String, _ title: String, _ result: CheckResult, _ evidence: String, hint: String? = nil
    ) -> HostCheck {
        HostCheck(name: name, title: title, result: result, evidence: evidence, hint: result == .pass ? nil : hint)
    }

    private var drainHint: String { "“tdxctl drain --for kexec” ends them and proves it" }

    private var domains: HostCheck {
        check(
            "tds", "Trust domains", hasDomains ? .fail : .pass,
            "\(inventory.running) running, \(inventory.building) being built, \(inventory.ending) not proven back",
            hint: drainHint)
    }

    private var pages: HostCheck {
        let label = backend.isEmulated ? " (emulated: no page belongs to a TDX module)" : ""
        let unknown =
            inventory.unknown.isEmpty
            ? "" : "; counted whole, as their holders do not report it: " + inventory.unknown.joined(separator: ", ")
        return check(
            "pages", "Private memory", hasPrivateMemory ? .fail : .pass,
            "\(inventory.privateBytes) bytes private, \(inventory.convertingBytes) converting" + unknown + label,
            hint: "the next kernel would take it for ordinary memory; " + drainHint)
    }

    private var keys: HostCheck {
        check(
            "keys", "Key ids", inventory.keysDraining > 0 ? .fail : .pass,
            "\(inventory.keysTaken) taken, \(inventory.keysDraining) of them draining",
            hint: "“tdxctl keys” shows whose they are")
    }

    private var proofs: HostCheck {
        let open = [("not proven: ", inventory.unproven), ("quarantined: ", inventory.quarantined)]
            .filter { !$0.1.isEmpty }.map { $0.0 + $0.1.joined(separator: ", ") }
        return check(
            "proofs", "Ends of TDs", open.isEmpty ? .pass : .fail,
            open.isEmpty ? "none is unproven" : open.joined(separator: "; "),
            hint: "see their certificates: memory of theirs may still be private")
    }

    private var erratum: HostCheck {
        switch host.hasPartialWriteErratum {
        case true?:
            let isLeft = hasPrivateMemory || !inventory.unproven.isEmpty || !inventory.quarantined.isEmpty
            return check(
                "erratum", "Partial-write erratum", isLeft ? .fail : .pass,
                "tdx_pw_mce: a small write to private memory poisons it; "
                    + (hasPrivateMemory
                        ? "there is some" : isLeft ? "some may be left, see the ends of TDs" : "none is left"),
                hint: "the next kernel's first writes could bring machine checks")
        case false?: return check("erratum", "Partial-write erratum", .pass, "this CPU does not have it")
        case nil: return check("erratum", "Partial-write erratum", .skip, "/proc/cpuinfo cannot be read")
        }
    }

    private var kernel: HostCheck {
        let release = host.kernelRelease ?? "of unknown release"
        switch host.kernelRefusesToLoad {
        case true?:
            return check(
                "kernel", "This kernel", .fail,
                "\(release) refuses to load an image where TDX is on and the CPU has the erratum",
                hint: "reboot instead, or start this kernel without kvm_intel.tdx")
        case false?:
            return check(
                "kernel", "This kernel", .pass,
                host.usesTDX == false
                    ? "\(release), TDX is not on"
                    : host.shutsModuleDown == true
                        ? "\(release) disables the TDX module and flushes caches before a kexec"
                        : "\(release) does not refuse on this CPU; what it does about the TDX module is not known")
        case nil: return check("kernel", "This kernel", .skip, "\(release): whether it refuses is not known")
        }
    }

    private var image: HostCheck {
        switch host.isImageLoaded {
        case true?:
            check(
                "image", "Image for kexec", hasDomains ? .fail : .pass, "one is loaded",
                hint: "a reboot would start it at once; “kexec -u” unloads it")
        case false?: check("image", "Image for kexec", .pass, "none is loaded")
        case nil: check("image", "Image for kexec", .skip, "/sys/kernel/kexec_loaded cannot be read")
        }
    }

    private var crashKernel: HostCheck {
        switch host.isCrashKernelLoaded {
        case true?:
            check(
                "crash", "Crash kernel", .pass,
                "loaded, \(host.crashBytes.map { "\(ByteCount($0)) reserved" } ?? "its memory is unknown")"
                    + (host.usesTDX != false && host.shutsModuleDown == true
                        ? "; in a crash, too, this kernel disables the TDX module first" : ""))
        case false?: check("crash", "Crash kernel", .pass, "none is loaded")
        case nil: check("crash", "Crash kernel", .skip, "/sys/kernel/kexec_crash_loaded cannot be read")
        }
    }

    /// The verdict of each known way to treat kexec.
    var answers: [KexecAnswer] {
        let blockers = inventory.blockers(.kexec) + (others?.blockers ?? [])
        let open = blockers.isEmpty ? "nothing of any TD is left" : blockers.joined(separator: ", ")
        let isDrained = drain?.purpose == .kexec && blockers.isEmpty
        return [
            KexecAnswer(
                name: "refuse_while_module_is_up", allows: host.usesTDX.map { !$0 },
                reason: host.usesTDX.map { $0 ? "the TDX module is up" : "there is no TDX module" }
                    ?? "/sys does not show whether the TDX module is up"),
            KexecAnswer(name: "refuse_while_tds_run", allows: blockers.isEmpty, reason: "the default: " + open),
            KexecAnswer(
                name: "allow_after_drain", allows: isDrained,
                reason: isDrained
                    ? "the host was emptied for kexec" : drain == nil ? "the host is not being emptied" : open),
            KexecAnswer(name: "full_memory_reset", allows: nil, reason: "left to the next kernel: " + resetCost),
        ]
    }

    private var resetCost: String {
        guard let writeRate, writeRate > 0, let memory else { return "its cost could not be estimated" }
        let seconds = Double(memory.rawValue) / writeRate
        func gibibytes(_ bytes: Double) -> String { "\((bytes / Double(1 << 30) * 10).rounded() / 10) GiB" }
        return "about \((seconds * 10).rounded() / 10) s for \(gibibytes(Double(memory.rawValue))) on one CPU, at "
            + "\(gibibytes(writeRate)) a second as measured now with stores past the caches"
    }
}

/// How fast one CPU of this host writes memory: what a reset of all memory would cost follows from it.
enum WriteRate {
    private static let size = 64 << 20

    /// Bytes a second of the best of three passes over 64 MiB that are resident; takes about 50 ms. Nil without memory.
    static func measure() -> Double? {
        let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else { return nil }
        defer { munmap(memory, size) }
        // Pages are made by the first pass, which is none of those that count.
        memset(memory, 1, size)
        let best = (2...4).map { value in
            let start = MonotonicInstant.now
            tdxd_stream_fill(memory, size, UInt8(value))
            return MonotonicInstant.now.milliseconds(since: start)
        }.min()
        return best.flatMap { $0 > 0 ? Double(size) / $0 * 1000 : nil }
    }
}
