/// The CPUID that KVM keeps for a TD's vCPU (KVM_SET_CPUID2). It is another list than that of KVM_TDX_INIT_VM: the guest's
/// own CPUID instruction is answered by the TDX module, and KVM's copy serves the checks of KVM alone.
///
/// Linux 7.2 looks at three leaves. Leaf 1, ECX bit 21 (x2APIC): without it KVM_TDX_INIT_VCPU answers EINVAL, since the
/// vCPU's APIC base has the x2APIC bit. Leaves 0x80000000 and 0x80000008: without them KVM takes guest-physical
/// addresses for 36 bits wide and refuses every MapGPA with the shared bit.
/// Source: Linux 7.2, arch/x86/kvm/lapic.c, cpuid.c, mmu/mmu.c, vmx/tdx.c.
public enum TrustDomainCPUID {
    /// Leaf 1, ECX.
    public static let x2APIC: UInt32 = 1 << 21
    /// What a TD's CPUs have where the module does not report it: the architecture's limit, in bits.
    static let architecturalAddressBits: UInt32 = 52

    /// The list for KVM_SET_CPUID2.
    ///
    /// - Parameters:
    ///   - told: KVM_TDX_GET_CPUID's answer; empty where the kernel could not give one.
    ///   - guestAddressBits: the width of guest-physical addresses that KVM_TDX_INIT_VM was given, 48 or 52.
    /// - Returns: `told` with x2APIC, and with leaves 0x80000000 and 0x80000008 complete; at most three entries more.
    public static func ofVCPU(told: [CPUIDEntry], guestAddressBits: UInt32) -> [CPUIDEntry] {
        var entries = told
        func change(_ function: UInt32, _ body: (inout CPUIDEntry) -> Void) {
            let place = entries.firstIndex { $0.function == function }
            if place == nil { entries.append(CPUIDEntry(function: function)) }
            body(&entries[place ?? entries.count - 1])
        }
        change(1) { $0.ecx |= x2APIC }
        change(0x8000_0000) { $0.eax = max($0.eax, 0x8000_0008) }
        change(0x8000_0008) {
            let width = $0.eax & 0xFF
            $0.eax = $0.eax & 0xFF00_FF00 | guestAddressBits << 16
            $0.eax |= width >= guestAddressBits ? width : architecturalAddressBits
        }
        return entries
    }

    /// Whether KVM_TDX_INIT_VCPU accepts a vCPU with this list.
    public static func hasX2APIC(_ entries: [CPUIDEntry]) -> Bool {
        entries.first { $0.function == 1 }.map { $0.ecx & x2APIC != 0 } ?? false
    }

    /// MAXPHYADDR as KVM reads it from a vCPU's list, in bits: 36 without leaf 0x80000008.
    public static func physicalAddressBits(_ entries: [CPUIDEntry]) -> UInt32 {
        guard let range = entries.first(where: { $0.function == 0x8000_0000 }), range.eax >= 0x8000_0008,
            let sizes = entries.first(where: { $0.function == 0x8000_0008 })
        else { return 36 }
        return sizes.eax & 0xFF
    }
}
