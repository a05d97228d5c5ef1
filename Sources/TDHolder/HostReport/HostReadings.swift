internal import KVM
internal import LinuxSystem

/// What was read of a host, each reading with the refusal in its place where it could not be made. No judgement here.
struct HostReadings: Sendable {
    /// What /dev/kvm said.
    struct KVM: Hashable, Sendable {
        var apiVersion: Int
        /// KVM_CAP_VM_TYPES
        var vmTypes: UInt32
        /// KVM_CAP_GUEST_MEMFD
        var guestMemory: Int
        /// KVM_CAP_GUEST_MEMFD_FLAGS of a VM of the default type.
        var guestMemoryFlags: GuestMemoryFlags
        /// KVM_CAP_MEMORY_ATTRIBUTES by VM type, of those that the host offers.
        var attributes: [VMType: UInt64]
        /// KVM_CAP_PRE_FAULT_MEMORY
        var preFault: Int
        var terminate: Terminate
    }

    /// Whether KVM_TDX_TERMINATE_VM is there, and how that was found out.
    enum Terminate: Hashable, Sendable {
        /// No VM of type 5 to ask.
        case noTDX
        /// Bit 0 of `supported_caps`.
        case announced
        /// A throw-away TD accepted it.
        case accepted
        /// A throw-away TD refused it with this errno.
        case refused(String)
        case unknown(String)
    }

    var kvm: Reading<KVM>
    var processor: Reading<ProcessorInformation>
    /// /sys/module/kvm_intel/parameters/tdx
    var moduleParameter: Reading<String>
    /// misc.capacity of the root control group.
    var capacities: Reading<[MiscResource]>
    /// Bytes that cachestat(2) counted in a memfd of which `expected` bytes were present.
    var cachestat: Reading<(expected: UInt64, counted: UInt64)>
    var memory: Reading<MemoryInformation>
}

/// A value, or why it could not be read.
enum Reading<Value: Sendable>: Sendable {
    case value(Value)
    case refused(String)

    var value: Value? {
        if case .value(let value) = self { value } else { nil }
    }
    var refusal: String? {
        if case .refused(let why) = self { why } else { nil }
    }
}

extension HostReadings {
    /// What a backend is chosen from.
    var offers: BackendOffers {
        switch kvm {
        case .refused(let why):
            BackendOffers(
                obstacle: why, vmTypes: 0, hasGuestMemory: false, guestMemoryFlags: [], hasPrivateAttribute: false)
        case .value(let kvm) where kvm.apiVersion != 12:
            BackendOffers(
                obstacle: "KVM's API version is \(kvm.apiVersion), not 12", vmTypes: 0, hasGuestMemory: false,
                guestMemoryFlags: [], hasPrivateAttribute: false)
        case .value(let kvm):
            BackendOffers(
                vmTypes: kvm.vmTypes, hasGuestMemory: kvm.guestMemory > 0, guestMemoryFlags: kvm.guestMemoryFlags,
                hasPrivateAttribute: (kvm.attributes[.softwareProtected] ?? 0) & 8 != 0)
        }
    }
}
