internal import KVM
internal import MemoryUnits
internal import SystemPackage

/// What KVM_CHECK_EXTENSION answers on an emulated host. Source: reference/kvm.md §1.2 to §1.4.
enum Capabilities {
    /// At system scope; nil where the kernel underneath should be asked.
    static func ofSystem(_ capability: KVMCapability, host: HostContext) -> Int? {
        switch capability {
        case .preFaultMemory: host.configuration.preFaults ? 1 : 0
        case .numberOfMemslots: Int(SlotTable.capacity)
        case .splitIRQChip, .userMemory2, .memoryFaultInfo, .guestMemfd: 1
        case .exitHypercall: 1 << 12
        case .memoryAttributes: 8
        case .maximumVCPUs: 1024
        case .guestMemfdFlags: 3
        default: nil
        }
    }

    /// On the descriptor of a TDX VM: what depends on the VM's type, then what the host offers.
    static func ofMachine(_ capability: KVMCapability, host: HostContext) throws(KVMError) -> Int {
        switch capability {
        case .maximumVCPUs: min(1024, host.processors)
        case .guestMemfdFlags: 1
        case .vmTypes: try (host.kernel?.check(.vmTypes) ?? 1) | 1 << Int(VMType.tdx.rawValue)
        // A TD has neither read-only memory nor system-management mode; its private half is not another address space.
        case KVMCapability(rawValue: 81), KVMCapability(rawValue: 117): 0
        case KVMCapability(rawValue: 118): 1
        default:
            if let own = ofSystem(capability, host: host) {
                own
            } else {
                try host.kernel?.check(capability) ?? linux[capability.rawValue] ?? 0
            }
        }
    }

    /// What every VM of Linux 7.2 on x86 with an Intel CPU answers, for a host without a kernel underneath.
    private static let linux: [UInt32: Int] = {
        let ones: [UInt32] = [
            0, 1, 3, 4, 7, 8, 11, 12, 14, 16, 21, 22, 23, 24, 26, 30, 32, 33, 34, 35, 36, 37, 40, 41, 55, 56, 60, 61,
            63,
            66, 78, 82, 95, 98, 105, 116, 122, 136, 164, 203, 214, 215, 218, 230, 237,
        ]
        var all = Dictionary(uniqueKeysWithValues: ones.map { ($0, 1) })
        all[15] = 2  // COALESCED_MMIO: the page of kvm_run
        all[25] = 4096  // IRQ_ROUTING
        all[31] = 32  // MCE: banks
        all[128] = 4096  // MAX_VCPU_ID
        all[129] = 3  // X2APIC_API
        return all
    }()
}

/// KVM_ENABLE_CAP on a TDX VM.
enum EnableRule {
    /// Bits of the first argument that Linux 7.2 takes, for capabilities that change nothing of what the emulator does.
    static let acceptedBits: [UInt32: UInt64] = [
        116: 0x1FF,  // DISABLE_QUIRKS
        129: 3,  // X2APIC_API
        143: 0xF,  // X86_DISABLE_EXITS
        164: .max,  // EXCEPTION_PAYLOAD
        168: 3,  // MANUAL_DIRTY_LOG_PROTECT2
        182: .max,  // HALT_POLL
        188: 7,  // X86_USER_SPACE_MSR
        204: .max,  // EXIT_ON_EMULATION_FAILURE
        213: 0x1FF,  // DISABLE_QUIRKS2
        218: .max,  // X86_TRIPLE_FAULT_EVENT
    ]
}

extension TDXMachine {
    /// KVM_ENABLE_CAP: the split irqchip, without which there is no vCPU, hypercall exits, and what else a VMM sets.
    func enable(_ capability: KVMCapability, _ arguments: [UInt64]) throws(KVMError) {
        let name = "KVM_ENABLE_CAP"
        try enter(name)
        func refuse(_ errno: Errno, _ detail: String) -> KVMError { KVMError(name, errno, detail: detail) }
        guard arguments.count <= 4 else { throw refuse(.invalidArgument, "\(arguments.count) arguments") }
        let argument = arguments.first ?? 0
        try kvmLock.withLock { () throws(KVMError) in
            let hasVCPUs = !vcpus.isEmpty || vcpusInCreation > 0
            switch capability {
            case .splitIRQChip:
                guard argument <= 4096 else { throw refuse(.invalidArgument, "\(argument) reserved pins") }
                guard !hasSplitIRQChip, !hasVCPUs else {
                    throw refuse(.fileExists, "there is an irqchip, or there are vCPUs")
                }
                hasSplitIRQChip = true
            case .exitHypercall:
                guard argument & ~(1 << 12) == 0 else { throw refuse(.invalidArgument, "hypercalls \(argument)") }
                hypercallExits = argument
            case .maximumVCPUID:
                guard !hasVCPUs, (1...4096).contains(argument), maximumVCPUID == nil || maximumVCPUID == argument else {
                    throw refuse(.invalidArgument, "at most \(argument) vCPU ids")
                }
                maximumVCPUID = argument
            case .apicBusCycles:
                guard argument != 0, argument <= UInt64(UInt32.max) else {
                    throw refuse(.invalidArgument, "\(argument) ns a cycle")
                }
                guard hasSplitIRQChip else { throw refuse(.noSuchAddressOrDevice, "no irqchip") }
                guard !hasVCPUs else { throw refuse(.invalidArgument, "vCPUs exist") }
            default:
                guard let bits = EnableRule.acceptedBits[capability.rawValue], argument & ~bits == 0 else {
                    throw refuse(.invalidArgument, "capability \(capability.rawValue), argument \(argument)")
                }
            }
        }
    }
}
