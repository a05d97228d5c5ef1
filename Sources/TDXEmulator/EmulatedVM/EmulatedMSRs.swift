/// The MSRs that Linux emulates for a TD (`tdx_has_emulated_msr()`), without machine-check banks.
struct EmulatedMSRs {
    private var values: [UInt64: UInt64] = [
        0x10A: 0,  // ARCH_CAPABILITIES
        0x140: 0,  // MISC_FEATURES_ENABLES
        0x179: 0,  // MCG_CAP
        0x17A: 0,  // MCG_STATUS
        0x1A0: 0x1800,  // MISC_ENABLE: no BTS, no PEBS
        0x1FC: 0,  // POWER_CTL
        0x277: 0x0007_0406_0007_0406,  // PAT
        0x2FF: 0,  // MTRRdefType
        0x6E0: 0,  // TSC_DEADLINE
        0x4B56_4D05: 1,  // KVM_POLL_CONTROL
    ]
    /// What only reads, or refuses the guest's writes.
    private static let constants: [UInt64: UInt64] = [
        0x3A: 1,  // FEAT_CTL: locked
        0x8B: 1 << 32,  // UCODE_REV
        0xCE: 1 << 31,  // PLATFORM_INFO: CPUID faulting
        0xFE: 0x508,  // MTRRcap
        0xC000_0080: 0xD01,  // EFER: SCE, LME, LMA, NX
    ]

    /// Nil where Linux injects an error.
    func read(_ index: UInt64, vcpuID: UInt32) -> UInt64? {
        switch index {
        // APIC base: enabled, x2APIC; vCPU 0 is the boot processor.
        case 0x1B: return 0xFEE0_0C00 | (vcpuID == 0 ? 1 << 8 : 0)
        // x2APIC id and version.
        case 0x802: return UInt64(vcpuID)
        case 0x803: return 0x5_0014
        default:
            if let value = Self.constants[index] ?? values[index] { return value }
            return Self.isPlain(index) ? 0 : nil
        }
    }

    /// False where Linux injects an error.
    mutating func write(_ index: UInt64, _ value: UInt64) -> Bool {
        guard values[index] != nil && index != 0x10A && index != 0x179 || Self.isPlain(index) else { return false }
        values[index] = value
        return true
    }

    /// MTRRs, and the x2APIC registers that the processor does not virtualize for a TD.
    private static func isPlain(_ index: UInt64) -> Bool {
        switch index {
        case 0x200...0x26F: true
        // Without the id and version: TPR, PPR, EOI, ISR, TMR, IRR are the processor's.
        case 0x80D...0x80F, 0x828...0x83F: true
        default: false
        }
    }
}
