internal import KVM
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

    /// On the descriptor of a TDX VM.
    static func ofMachine(_ capability: KVMCapability, host: HostContext) -> Int {
        switch capability {
        case .maximumVCPUs: min(1024, host.processors)
        case .guestMemfdFlags: 1
        case .vmTypes: 1 << 5
        default: ofSystem(capability, host: host) ?? 0
        }
    }
}

extension TDXMachine {
    /// KVM_ENABLE_CAP: the split irqchip, without which there is no vCPU, and hypercall exits.
    func enable(_ capability: KVMCapability, _ arguments: [UInt64]) throws(KVMError) {
        let name = "KVM_ENABLE_CAP"
        try enter(name)
        func refuse(_ errno: Errno, _ detail: String) -> KVMError { KVMError(name, errno, detail: detail) }
        guard arguments.count <= 4 else { throw refuse(.invalidArgument, "\(arguments.count) arguments") }
        let argument = arguments.first ?? 0
        switch capability {
        case .splitIRQChip:
            try kvmLock.withLock { () throws(KVMError) in
                guard argument <= 4096 else { throw refuse(.invalidArgument, "\(argument) reserved pins") }
                guard !hasSplitIRQChip, vcpus.isEmpty, vcpusInCreation == 0 else {
                    throw refuse(.fileExists, "there is an irqchip, or there are vCPUs")
                }
                hasSplitIRQChip = true
            }
        case .exitHypercall:
            guard argument & ~(1 << 12) == 0 else { throw refuse(.invalidArgument, "hypercalls \(argument)") }
            kvmLock.withLock { hypercallExits = argument }
        default:
            throw refuse(.invalidArgument, "capability \(capability.rawValue)")
        }
    }
}
