internal import KVM
internal import SystemPackage

/// The commands of KVM_MEMORY_ENCRYPT_OP for TDX and the state checks that come first, as data.
/// Source: reference/kvm.md §1.5.
enum TDXCommand: UInt32, CaseIterable, Sendable {
    case capabilities = 0
    case initializeVM = 1
    case initializeVCPU = 2
    case initializeMemoryRegion = 3
    case finalizeVM = 4
    case getCPUID = 5
    case terminateVM = 6

    struct Rule: Sendable {
        var name: String
        /// States of the TD in which the command goes on; in others it answers EINVAL.
        var trustDomainStates: Set<TDXMachine.State>
        /// State that the command's vCPU must be in, else EINVAL; nil for VM commands and where it does not matter.
        var vcpuState: VCPUCore.State?
    }

    var rule: Rule {
        switch self {
        case .capabilities:
            Rule(name: "KVM_TDX_CAPABILITIES", trustDomainStates: TDXMachine.State.all)
        case .initializeVM:
            Rule(name: "KVM_TDX_INIT_VM", trustDomainStates: [.uninitialized])
        case .initializeVCPU:
            Rule(
                name: "KVM_TDX_INIT_VCPU", trustDomainStates: [.initialized],
                vcpuState: .uninitialized)
        case .initializeMemoryRegion:
            Rule(
                name: "KVM_TDX_INIT_MEM_REGION", trustDomainStates: [.initialized],
                vcpuState: .initialized)
        case .finalizeVM:
            Rule(name: "KVM_TDX_FINALIZE_VM", trustDomainStates: [.initialized])
        case .getCPUID:
            Rule(name: "KVM_TDX_GET_CPUID", trustDomainStates: [.initialized])
        case .terminateVM:
            Rule(name: "KVM_TDX_TERMINATE_VM", trustDomainStates: TDXMachine.State.all)
        }
    }

    /// The command's first check: EINVAL in a wrong state.
    func checkState(_ state: TDXMachine.State, vcpu: VCPUCore.State? = nil) throws(KVMError) {
        guard rule.trustDomainStates.contains(state) else {
            throw KVMError(rule.name, .invalidArgument, detail: "the TD is \(state)")
        }
        if let needed = rule.vcpuState, let vcpu, vcpu != needed {
            throw KVMError(rule.name, .invalidArgument, detail: "the vCPU is \(vcpu)")
        }
    }
}
