internal import ControlInterface
internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import ServiceSupport

/// Turns readings into the rows that `tdxctl ok` prints. Pure.
///
/// `fail` is for what keeps tdxd from doing its work on this host; what only makes it choose another backend, or work
/// more slowly, is `skip`.
struct HostReportBuilder {
    let readings: HostReadings
    let choice: BackendChoice

    /// Least available memory with which a TD can be tried at all: firmware, tables, and 256 MiB of its own.
    static let leastMemory = ByteCount.mebibytes(512)

    func report() -> HostReport {
        let checks = kvmChecks() + tdxChecks() + [cachestat(), landlock(), memory()]
        do {
            let chosen = try BackendChooser.choose(choice, from: readings.offers)
            let row = HostCheck(
                name: "backend", title: "Backend", result: .pass,
                evidence: "\(chosen.backend.rawValue): \(chosen.reason)")
            return HostReport(backend: chosen.backend, reason: chosen.reason, checks: checks + [row])
        } catch {
            let row = HostCheck(
                name: "backend", title: "Backend", result: .fail, evidence: "\(error)",
                hint: "set the backend to auto, or mend what is missing above")
            return HostReport(backend: error.backend, reason: "\(error)", checks: checks + [row])
        }
    }

    /// A row that passes where `holds` is true and otherwise is `otherwise`, with the hint.
    private func row(
        _ name: String, _ title: String, _ holds: Bool, _ evidence: String, otherwise: CheckResult = .skip,
        hint: String
    ) -> HostCheck {
        HostCheck(
            name: name, title: title, result: holds ? .pass : otherwise, evidence: evidence, hint: holds ? nil : hint)
    }

    // MARK: KVM

    private func kvmChecks() -> [HostCheck] {
        switch readings.kvm {
        case .refused(let why): kvmAbsent(why)
        case .value(let kvm):
            [
                HostCheck(
                    name: "kvm/device", title: "/dev/kvm", result: .pass,
                    evidence: "/dev/kvm was opened for reading and writing"),
                row(
                    "kvm/api_version", "KVM API version", kvm.apiVersion.value == 12, kvm.apiVersion.evidence,
                    otherwise: .fail, hint: "this program speaks version 12, as every Linux since 2.6.22"),
                vmTypes(kvm),
                row(
                    "kvm/guest_memfd", "guest_memfd", kvm.guestMemory.value == true, kvm.guestMemory.evidence,
                    hint: "Linux 6.8 and later have it; memory is memfd without it"),
                guestMemoryFlags(kvm), attributes(kvm),
                row(
                    "kvm/pre_fault", "Pre-fault", kvm.preFault.value == true, kvm.preFault.evidence,
                    hint: "Linux 6.11 and later have it where the CPU has nested paging"),
                row(
                    "kvm/terminate_vm", "TERMINATE_VM", kvm.terminate.value == .supported, kvm.terminate.evidence,
                    hint: "no released kernel has it; ending a TD of many GiB takes longer without it"),
            ]
        }
    }

    /// The rows of a host whose /dev/kvm cannot be used: the same names, so that reports can be compared.
    private func kvmAbsent(_ why: String) -> [HostCheck] {
        let isForbidden = why.contains("EACCES") || why.contains("EPERM")
        let hint =
            isForbidden
            ? "let the service's user open /dev/kvm, for example by adding it to the group kvm"
            : "load kvm_intel or kvm_amd, and enable virtualisation in the firmware; without it memory is memfd"
        let others = [
            ("kvm/api_version", "KVM API version"), ("kvm/vm_types", "VM types"), ("kvm/guest_memfd", "guest_memfd"),
            ("kvm/guest_memfd_flags", "guest_memfd flags"), ("kvm/memory_attributes", "Memory attributes"),
            ("kvm/pre_fault", "Pre-fault"), ("kvm/terminate_vm", "TERMINATE_VM"),
        ]
        return [row("kvm/device", "/dev/kvm", false, why, hint: hint)]
            + others.map { name, title in
                HostCheck(name: name, title: title, result: .skip, evidence: "not asked: /dev/kvm is not usable")
            }
    }

    private func vmTypes(_ kvm: KVMFacts) -> HostCheck {
        let names: [(bit: UInt32, name: String)] = [
            (0, "default"), (1, "software-protected"), (2, "SEV"), (3, "SEV-ES"), (4, "SNP"), (5, "TDX"),
        ]
        let types = kvm.vmTypes.value ?? 0
        let list = names.filter { types & (1 << $0.bit) != 0 }.map { "\($0.bit) \($0.name)" }
        return row(
            "kvm/vm_types", "VM types", kvm.offers(.tdx),
            kvm.vmTypes.evidence + (list.isEmpty ? "" : ": " + list.joined(separator: ", ")),
            hint: "type 5 needs a CPU with TDX and kvm_intel loaded with tdx=1; TDX is emulated without it")
    }

    private func guestMemoryFlags(_ kvm: KVMFacts) -> HostCheck {
        let finding = kvm.facts(for: .default)?.guestMemoryFlags ?? Finding(nil, "VM type 0 is not offered")
        let flags = finding.value ?? []
        var names: [String] = []
        if flags.contains(.mmap) { names.append("MMAP") }
        if flags.contains(.initShared) { names.append("INIT_SHARED") }
        return row(
            "kvm/guest_memfd_flags", "guest_memfd flags", flags.isSuperset(of: [.mmap, .initShared]),
            finding.evidence + (names.isEmpty ? "" : ": " + names.joined(separator: ", ")),
            hint: "Linux 6.18 and later have MMAP and INIT_SHARED; backend guest_memfd needs both")
    }

    private func attributes(_ kvm: KVMFacts) -> HostCheck {
        let evidence = kvm.types.map(\.privateMemory.evidence).joined(separator: "; ")
        return row(
            "kvm/memory_attributes", "Memory attributes", kvm.types.contains { $0.privateMemory.value == true },
            evidence.isEmpty ? "no VM type to ask" : evidence,
            hint: "needs a VM type with private memory (TDX, or type 1 of a debug kernel); tracked in user space")
    }

    // MARK: TDX

    private func tdxChecks() -> [HostCheck] {
        let platform = readings.platform
        let cpu = readings.processor.value.map { " (\($0.vendor), \($0.model))" } ?? ""
        return [
            row(
                "tdx/host_platform", "TDX host platform", platform.tdxHostPlatform.value == true,
                platform.tdxHostPlatform.evidence + cpu,
                hint: "needs an Intel Xeon with TDX enabled in the firmware; the TDX module is emulated"),
            row(
                "tdx/module_parameter", "kvm_intel.tdx", platform.tdxModuleParameter.value == true,
                platform.tdxModuleParameter.evidence,
                hint: "on a TDX host load kvm_intel with tdx=1; the kernel log has what keeps it off (virt/tdx:)"),
            erratum(
                "tdx_pw_mce", "Erratum: partial writes", platform.partialWriteErratum,
                "reclaimed pages are rewritten by 64-byte direct stores, which takes time"),
            erratum(
                "seamret_invd_vmcs", "Erratum: SEAMRET", platform.seamReturnErratum,
                "the TDX module cannot be updated at run time"),
            row(
                "tdx/key_ids", "Key-id capacity", (platform.keyIDs.value ?? 0) > 0, platform.keyIDs.evidence,
                hint:
                    platform.keyIDs.value == nil
                    ? "unknown: echo +misc >/sys/fs/cgroup/cgroup.subtree_control lets the kernel show misc.capacity"
                    : "misc.capacity of the root cgroup2 has a line tdx where TDX is on; emulated key ids are tdxd's own"
            ),
        ]
    }

    private func erratum(_ bug: String, _ title: String, _ finding: Finding<Bool>, _ meaning: String) -> HostCheck {
        row(
            "tdx/errata/\(bug)", title, finding.value == false, finding.evidence,
            hint: finding.value == nil ? "mount /proc" : meaning)
    }

    // MARK: Linux

    private func cachestat() -> HostCheck {
        let finding = readings.platform.cachestat
        return row(
            "linux/cachestat", "cachestat", finding.value == true, finding.evidence, otherwise: .fail,
            hint:
                "Linux 6.5 and later have cachestat(2), unless built without it; without it a guest_memfd's residency cannot be proven, only a memfd's"
        )
    }

    private func landlock() -> HostCheck {
        let (holds, evidence) =
            switch readings.fence {
            case .version(let version): (true, "landlock_create_ruleset: version \(version)")
            case .absent(let error): (false, "\(error)")
            }
        return row(
            "linux/landlock", "Landlock", holds, evidence,
            hint:
                "Linux 5.13 and later have it where CONFIG_LSM or the kernel's parameter lsm= names landlock; without it "
                + "file permissions and the service's own confinement alone keep tdxd and holders from other files")
    }

    private func memory() -> HostCheck {
        guard let memory = readings.memory.value else {
            return row(
                "linux/memory", "Memory available", false, readings.memory.refusal ?? "", otherwise: .fail,
                hint: "mount /proc")
        }
        return row(
            "linux/memory", "Memory available", memory.available >= Self.leastMemory,
            "/proc/meminfo: MemAvailable \(memory.available.rawValue >> 20) MiB of \(memory.total.rawValue >> 20) MiB",
            otherwise: .fail, hint: "a small TD with firmware needs \(Self.leastMemory)")
    }
}
