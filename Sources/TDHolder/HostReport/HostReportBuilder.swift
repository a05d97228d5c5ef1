internal import ControlInterface
internal import KVM
internal import LinuxSystem
internal import MemoryUnits

/// Turns readings into the rows that `tdxctl ok` prints. Pure.
///
/// `fail` is for what keeps tdxd from doing its work on this host; what only makes it choose another backend is `skip`.
struct HostReportBuilder {
    let readings: HostReadings
    let choice: BackendChoice

    /// Least memory, in bytes, with which a TD can be tried at all: firmware, its tables and 256 MiB of its own.
    static let leastMemory = ByteCount.mebibytes(512)

    func report() -> HostReport {
        var checks = kvmChecks() + tdxChecks() + linuxChecks()
        switch Result(catching: { () throws(BackendUnavailable) in
            try BackendChooser.choose(choice, from: readings.offers)
        }) {
        case .success(let chosen):
            checks.append(
                HostCheck(
                    name: "backend", title: "Backend", result: .pass,
                    evidence: "\(chosen.backend.rawValue): \(chosen.reason)"))
            return HostReport(backend: chosen.backend, reason: chosen.reason, checks: checks)
        case .failure(let error):
            checks.append(
                HostCheck(
                    name: "backend", title: "Backend", result: .fail, evidence: error.description,
                    hint: "set the backend to auto, or mend what is missing above"))
            return HostReport(backend: error.backend, reason: error.description, checks: checks)
        }
    }

    // MARK: KVM

    private func kvmChecks() -> [HostCheck] {
        guard let kvm = readings.kvm.value else {
            let why = readings.kvm.refusal ?? ""
            let hint =
                if why.contains("EACCES") || why.contains("EPERM") {
                    "let the service's user open /dev/kvm, for example by adding it to the group kvm"
                } else {
                    "load kvm_intel or kvm_amd, and enable virtualisation in the firmware; without it memory is memfd"
                }
            return [HostCheck(name: "kvm/device", title: "/dev/kvm", result: .skip, evidence: why, hint: hint)]
                + Self.kvmRows.map { row in
                    HostCheck(
                        name: row.name, title: row.title, result: .skip, evidence: "not asked: /dev/kvm is not usable")
                }
        }
        return [
            HostCheck(
                name: "kvm/device", title: "/dev/kvm", result: .pass,
                evidence: "/dev/kvm opened for reading and writing"),
            HostCheck(
                name: "kvm/api_version", title: "KVM API version", result: kvm.apiVersion == 12 ? .pass : .fail,
                evidence: "KVM_GET_API_VERSION returned \(kvm.apiVersion)",
                hint: kvm.apiVersion == 12 ? nil : "this program speaks version 12, that of every Linux since 2.6.22"),
            vmTypes(kvm), guestMemory(kvm), guestMemoryFlags(kvm), attributes(kvm), preFault(kvm), terminate(kvm),
        ]
    }

    private static let kvmRows: [(name: String, title: String)] = [
        ("kvm/api_version", "KVM API version"), ("kvm/vm_types", "VM types"), ("kvm/guest_memfd", "guest_memfd"),
        ("kvm/guest_memfd_flags", "guest_memfd flags"), ("kvm/memory_attributes", "Memory attributes"),
        ("kvm/pre_fault", "Pre-fault"), ("kvm/terminate_vm", "TERMINATE_VM"),
    ]

    private func vmTypes(_ kvm: HostReadings.KVM) -> HostCheck {
        let names: [(bit: UInt32, name: String)] = [
            (0, "default"), (1, "software-protected"), (2, "SEV"), (3, "SEV-ES"), (4, "SNP"), (5, "TDX"),
        ]
        let list = names.filter { kvm.vmTypes & (1 << $0.bit) != 0 }.map { "\($0.bit) \($0.name)" }
        let hasTDX = kvm.vmTypes & (1 << VMType.tdx.rawValue) != 0
        return HostCheck(
            name: "kvm/vm_types", title: "VM types", result: hasTDX ? .pass : .skip,
            evidence: "KVM_CAP_VM_TYPES = 0x\(String(kvm.vmTypes, radix: 16)): " + list.joined(separator: ", "),
            hint: hasTDX
                ? nil : "type 5 needs a CPU with TDX and kvm_intel loaded with tdx=1; TDX is emulated without it")
    }

    private func guestMemory(_ kvm: HostReadings.KVM) -> HostCheck {
        HostCheck(
            name: "kvm/guest_memfd", title: "guest_memfd", result: kvm.guestMemory > 0 ? .pass : .skip,
            evidence: "KVM_CAP_GUEST_MEMFD = \(kvm.guestMemory)",
            hint: kvm.guestMemory > 0 ? nil : "Linux 6.8 and later have it; memory is memfd without it")
    }

    private func guestMemoryFlags(_ kvm: HostReadings.KVM) -> HostCheck {
        let flags = kvm.guestMemoryFlags
        var names: [String] = []
        if flags.contains(.mmap) { names.append("MMAP") }
        if flags.contains(.initShared) { names.append("INIT_SHARED") }
        let isComplete = flags.isSuperset(of: [.mmap, .initShared])
        return HostCheck(
            name: "kvm/guest_memfd_flags", title: "guest_memfd flags", result: isComplete ? .pass : .skip,
            evidence: "KVM_CAP_GUEST_MEMFD_FLAGS of a default VM = 0x\(String(flags.rawValue, radix: 16)): "
                + (names.isEmpty ? "none" : names.joined(separator: ", ")),
            hint: isComplete ? nil : "Linux 6.18 and later have MMAP and INIT_SHARED; the emulator needs both")
    }

    private func attributes(_ kvm: HostReadings.KVM) -> HostCheck {
        let found = kvm.attributes.sorted { $0.key.rawValue < $1.key.rawValue }
        let hasPrivate = found.contains { $0.value & 8 != 0 }
        let text = found.map { "type \($0.key.rawValue): 0x\(String($0.value, radix: 16))" }.joined(separator: ", ")
        return HostCheck(
            name: "kvm/memory_attributes", title: "Memory attributes", result: hasPrivate ? .pass : .skip,
            evidence: "KVM_CAP_MEMORY_ATTRIBUTES by VM type: " + (text.isEmpty ? "no type asked" : text),
            hint: hasPrivate
                ? nil : "needs a VM type with private memory (TDX, or type 1 of a debug kernel); tracked in user space")
    }

    private func preFault(_ kvm: HostReadings.KVM) -> HostCheck {
        HostCheck(
            name: "kvm/pre_fault", title: "Pre-fault", result: kvm.preFault > 0 ? .pass : .skip,
            evidence: "KVM_CAP_PRE_FAULT_MEMORY = \(kvm.preFault)",
            hint: kvm.preFault > 0 ? nil : "Linux 6.11 and later have it where the CPU has nested paging")
    }

    private func terminate(_ kvm: HostReadings.KVM) -> HostCheck {
        let (result, evidence): (CheckResult, String) =
            switch kvm.terminate {
            case .noTDX: (.skip, "not asked: KVM offers no VM of type 5")
            case .announced: (.pass, "bit 0 of supported_caps in KVM_TDX_CAPABILITIES")
            case .accepted: (.pass, "a throw-away TD accepted KVM_TDX_TERMINATE_VM")
            case .refused(let errno): (.skip, "a throw-away TD refused KVM_TDX_TERMINATE_VM with \(errno)")
            case .unknown(let why): (.skip, "could not be found out: \(why)")
            }
        return HostCheck(
            name: "kvm/terminate_vm", title: "TERMINATE_VM", result: result, evidence: evidence,
            hint: result == .pass ? nil : "no released kernel has it; stopping a TD of many GiB takes longer without it"
        )
    }

    // MARK: TDX

    private func tdxChecks() -> [HostCheck] {
        [hostPlatform(), moduleParameter()] + errata() + [keyIDs()]
    }

    private func hostPlatform() -> HostCheck {
        guard let processor = readings.processor.value else {
            return unread("tdx/host_platform", "TDX host platform", readings.processor.refusal)
        }
        let has = processor.flags.contains("tdx_host_platform")
        return HostCheck(
            name: "tdx/host_platform", title: "TDX host platform", result: has ? .pass : .skip,
            evidence: "/proc/cpuinfo (\(processor.vendor), \(processor.model)): tdx_host_platform is "
                + (has ? "among the flags" : "not among the flags"),
            hint: has ? nil : "needs an Intel Xeon with TDX enabled in the firmware; the TDX module is emulated")
    }

    private func moduleParameter() -> HostCheck {
        let path = "/sys/module/kvm_intel/parameters/tdx"
        guard let value = readings.moduleParameter.value else {
            return HostCheck(
                name: "tdx/module_parameter", title: "kvm_intel.tdx", result: .skip,
                evidence: readings.moduleParameter.refusal ?? path, hint: "load kvm_intel with tdx=1 on a TDX host")
        }
        let isOn = value.hasPrefix("Y") || value.hasPrefix("1")
        return HostCheck(
            name: "tdx/module_parameter", title: "kvm_intel.tdx", result: isOn ? .pass : .skip,
            evidence: "\(path): \(value.filter { !$0.isWhitespace })",
            hint: isOn ? nil : "load kvm_intel with tdx=1; the kernel log says what kept it off (“virt/tdx:”)")
    }

    private func errata() -> [HostCheck] {
        let known: [(bug: String, title: String, meaning: String)] = [
            ("tdx_pw_mce", "Erratum: partial writes", "reclaimed pages are rewritten by 64-byte direct stores"),
            ("seamret_invd_vmcs", "Erratum: SEAMRET", "the module cannot be updated at run time"),
        ]
        return known.map { erratum in
            let name = "tdx/errata/\(erratum.bug)"
            guard let processor = readings.processor.value else {
                return unread(name, erratum.title, readings.processor.refusal)
            }
            let has = processor.bugs.contains(erratum.bug)
            return HostCheck(
                name: name, title: erratum.title, result: has ? .skip : .pass,
                evidence: "/proc/cpuinfo: \(erratum.bug) is " + (has ? "among the bugs" : "not among the bugs"),
                hint: has ? erratum.meaning : nil)
        }
    }

    private func keyIDs() -> HostCheck {
        let title = "Key-id capacity"
        guard let capacities = readings.capacities.value else {
            return HostCheck(
                name: "tdx/key_ids", title: title, result: .skip,
                evidence: "misc.capacity: \(readings.capacities.refusal ?? "")",
                hint: "mount cgroup2 with the misc controller, and read it as root")
        }
        guard let tdx = capacities.first(where: { $0.name == "tdx" }) else {
            return HostCheck(
                name: "tdx/key_ids", title: title, result: .skip,
                evidence: "misc.capacity has no line “tdx”", hint: "the kernel shows one where TDX is enabled")
        }
        return HostCheck(
            name: "tdx/key_ids", title: title, result: tdx.amount > 0 ? .pass : .skip,
            evidence: "misc.capacity: tdx \(tdx.amount)",
            hint: tdx.amount > 0 ? nil : "KVM has not set TDX up, or was unloaded since")
    }

    // MARK: Linux

    private func linuxChecks() -> [HostCheck] {
        [cachestat(), memory()]
    }

    private func cachestat() -> HostCheck {
        guard let count = readings.cachestat.value else {
            return HostCheck(
                name: "linux/cachestat", title: "cachestat", result: .fail,
                evidence: readings.cachestat.refusal ?? "",
                hint: "Linux 6.5 and later have cachestat(2); without it no residency can be measured or proven")
        }
        let agrees = count.expected == count.counted
        return HostCheck(
            name: "linux/cachestat", title: "cachestat", result: agrees ? .pass : .fail,
            evidence: "cachestat(2) counted \(count.counted) of \(count.expected) bytes present in a memfd",
            hint: agrees ? nil : "the kernel's counts are not to be trusted: no residency can be proven")
    }

    private func memory() -> HostCheck {
        guard let memory = readings.memory.value else {
            return unread("linux/memory", "Memory available", readings.memory.refusal)
        }
        let isEnough = memory.available >= Self.leastMemory
        return HostCheck(
            name: "linux/memory", title: "Memory available", result: isEnough ? .pass : .fail,
            evidence: "/proc/meminfo: MemAvailable \(memory.available.rawValue >> 20) MiB of "
                + "\(memory.total.rawValue >> 20) MiB",
            hint: isEnough ? nil : "a small TD with firmware needs \(Self.leastMemory)")
    }

    private func unread(_ name: String, _ title: String, _ refusal: String?) -> HostCheck {
        HostCheck(name: name, title: title, result: .fail, evidence: refusal ?? "", hint: "mount /proc")
    }
}
