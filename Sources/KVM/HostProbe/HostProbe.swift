/// What KVM offers on a host, asked of the kernel (or of any other `KVMSystem`) and never assumed.
///
/// Nothing is changed: VMs made for asking are closed before the answer is given.
public struct KVMFacts: Hashable, Sendable {
    /// KVM_GET_API_VERSION; 12 is the only one there ever was.
    public var apiVersion: Finding<Int>
    /// KVM_CAP_VM_TYPES: bit n is VM type n.
    public var vmTypes: Finding<UInt32>
    /// KVM_CAP_GUEST_MEMFD
    public var guestMemory: Finding<Bool>
    /// KVM_CAP_NR_MEMSLOTS
    public var memorySlots: Finding<Int>
    /// KVM_CAP_MAX_VCPUS at system scope; a TDX VM may allow fewer.
    public var maximumVCPUs: Finding<Int>
    /// KVM_CAP_MEMORY_FAULT_INFO
    public var memoryFaultInformation: Finding<Bool>
    /// Whether KVM_CAP_EXIT_HYPERCALL lets KVM_HC_MAP_GPA_RANGE through.
    public var hypercallExits: Finding<Bool>
    /// KVM_CAP_PRE_FAULT_MEMORY at system scope.
    public var preFault: Finding<Bool>
    /// One entry for each type of 0, 1 and 5 that the host offers.
    public var types: [VMTypeFacts]
    public var terminate: Finding<TerminateCommand>
    /// KVM_TDX_CAPABILITIES; without value where VM type 5 is not offered.
    public var tdxCapabilities: Finding<TDXCapabilities>

    /// Whether a VM type is offered.
    public func offers(_ type: VMType) -> Bool { type.rawValue < 32 && (vmTypes.value ?? 0) >> type.rawValue & 1 == 1 }

    /// What was found for a type; nil where it is not offered.
    public func facts(for type: VMType) -> VMTypeFacts? { types.first { $0.type == type } }
}

/// What KVM offers for one VM type, asked of a VM of that type.
public struct VMTypeFacts: Hashable, Sendable {
    public var type: VMType
    /// KVM_CAP_GUEST_MEMFD_FLAGS at VM scope.
    public var guestMemoryFlags: Finding<GuestMemoryFlags>
    /// Whether KVM_CAP_MEMORY_ATTRIBUTES at VM scope has KVM_MEMORY_ATTRIBUTE_PRIVATE.
    public var privateMemory: Finding<Bool>
    public var maximumVCPUs: Finding<Int>
}

/// What the kernel makes of KVM_TDX_TERMINATE_VM, which no released kernel has.
public enum TerminateCommand: Hashable, Sendable {
    case supported
    case absent
    /// The host has no TDX VMs.
    case notApplicable
}

/// Asks a KVM what it offers.
public enum HostProbe {
    /// Works on /dev/kvm and on an emulator alike. Refusals become findings without value.
    public static func probe(_ system: any KVMSystem) -> KVMFacts {
        func capability<Value>(
            _ capability: KVMCapability, _ name: String, _ read: (Int) -> Value
        ) -> Finding<Value> {
            .reading { () throws(KVMError) in
                let value = try system.check(capability)
                return (read(value), "\(name) = \(hexadecimal(value))")
            }
        }
        let vmTypes = capability(.vmTypes, "KVM_CAP_VM_TYPES") { UInt32(truncatingIfNeeded: $0) }
        let offered = [VMType.default, .softwareProtected, .tdx].filter {
            (vmTypes.value ?? 0) >> $0.rawValue & 1 == 1
        }
        let hasTDX = offered.contains(.tdx)
        let tdxCapabilities: Finding<TDXCapabilities> =
            hasTDX
            ? .reading { () throws(KVMError) in
                let vm = try system.createVirtualMachine(.tdx)
                defer { vm.close() }
                let found = try vm.tdxCapabilities()
                return (
                    found,
                    "attributes \(hexadecimal(found.supportedAttributes)), xfam \(hexadecimal(found.supportedXFAM)), "
                        + "commands \(hexadecimal(found.supportedCommands)), "
                        + "\(found.configurableCPUID.count) configurable CPUID leaves"
                )
            } : Finding(nil, "VM type 5 is not offered")
        return KVMFacts(
            apiVersion: .reading { () throws(KVMError) in
                let version = try system.apiVersion()
                return (version, "KVM_GET_API_VERSION = \(version)")
            },
            vmTypes: vmTypes, guestMemory: capability(.guestMemfd, "KVM_CAP_GUEST_MEMFD") { $0 > 0 },
            memorySlots: capability(.numberOfMemslots, "KVM_CAP_NR_MEMSLOTS") { $0 },
            maximumVCPUs: capability(.maximumVCPUs, "KVM_CAP_MAX_VCPUS") { $0 },
            memoryFaultInformation: capability(.memoryFaultInfo, "KVM_CAP_MEMORY_FAULT_INFO") { $0 > 0 },
            hypercallExits: capability(.exitHypercall, "KVM_CAP_EXIT_HYPERCALL") { $0 >> 12 & 1 == 1 },
            preFault: capability(.preFaultMemory, "KVM_CAP_PRE_FAULT_MEMORY") { $0 > 0 },
            types: offered.map { facts(of: $0, system) },
            terminate: hasTDX
                ? TerminateProbe.probe(system, tdxCapabilities.value)
                : Finding(.notApplicable, "VM type 5 is not offered, so there is nothing to terminate"),
            tdxCapabilities: tdxCapabilities)
    }

    /// Asks a VM of the type, which is closed again.
    private static func facts(of type: VMType, _ system: any KVMSystem) -> VMTypeFacts {
        let vm: any KVMVirtualMachine
        do throws(KVMError) {
            vm = try system.createVirtualMachine(type)
        } catch {
            return VMTypeFacts(
                type: type, guestMemoryFlags: Finding(nil, "\(error)"), privateMemory: Finding(nil, "\(error)"),
                maximumVCPUs: Finding(nil, "\(error)"))
        }
        defer { vm.close() }
        let place = "on a VM of type \(type.rawValue)"
        return VMTypeFacts(
            type: type,
            guestMemoryFlags: .reading { () throws(KVMError) in
                let value = try vm.check(.guestMemfdFlags)
                return (
                    GuestMemoryFlags(rawValue: UInt64(value)),
                    "KVM_CAP_GUEST_MEMFD_FLAGS = \(hexadecimal(value)) \(place)"
                )
            },
            privateMemory: .reading { () throws(KVMError) in
                let value = try vm.check(.memoryAttributes)
                return (value & 8 != 0, "KVM_CAP_MEMORY_ATTRIBUTES = \(hexadecimal(value)) \(place)")
            },
            maximumVCPUs: .reading { () throws(KVMError) in
                let value = try vm.check(.maximumVCPUs)
                return (value, "KVM_CAP_MAX_VCPUS = \(value) \(place)")
            })
    }
}
