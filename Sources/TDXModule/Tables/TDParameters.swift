internal import TDXStatusCodes

/// TD_PARAMS (reference §8.3): 1,024 bytes that MNG.INIT reads, decoded and checked.
struct TDParameters: Sendable {
    var attributes: UInt64 = 0
    var xfam: UInt64 = 0
    var maxVCPUs: UInt16 = 0
    var eptpControls: UInt64 = 0
    var configFlags: UInt64 = 0
    var tscFrequency: UInt16 = 0
    var mrConfigID = [UInt8](repeating: 0, count: 48)
    var mrOwner = [UInt8](repeating: 0, count: 48)
    var mrOwnerConfig = [UInt8](repeating: 0, count: 48)
    var msrConfigControls: UInt8 = 0
    /// IA32_ARCH_CAPABILITIES_CONFIG.
    var archCapabilities: UInt64 = 0
    /// What the TD sees of CPUID.
    var cpuid = VirtualCPUID()

    /// Bits of ATTRIBUTES.
    enum Attribute {
        static let debug: UInt64 = 1 << 0
        /// [late] ICSSD.
        static let icssd: UInt64 = 1 << 16
        /// [late] Linear-address space separation.
        static let lass: UInt64 = 1 << 27
        static let septVEDisable: UInt64 = 1 << 28
        static let migratable: UInt64 = 1 << 29
        static let pks: UInt64 = 1 << 30
        static let perfmon: UInt64 = 1 << 63
    }

    /// Bits of CONFIG_FLAGS.
    enum ConfigFlag {
        static let wide: UInt64 = 1 << 0
        static let flexiblePendingVE: UInt64 = 1 << 1
        static let noRBPModification: UInt64 = 1 << 2
        /// [late] MAXPA_VIRT, MAXGPA_VIRT, SEALING.
        static let late: UInt64 = 1 << 3 | 1 << 4 | 1 << 7
    }

    /// Shared bit 51 instead of 47.
    var isWide: Bool { configFlags & ConfigFlag.wide != 0 }
    /// Level of the Secure EPT's root entries: 3 or 4.
    var rootLevel: UInt64 { eptpControls >> 3 & 7 }
    var isDebug: Bool { attributes & Attribute.debug != 0 }
    var disablesVE: Bool { attributes & Attribute.septVEDisable != 0 }
    var isMigratable: Bool { attributes & Attribute.migratable != 0 }
    var hasSupervisorKeys: Bool { attributes & Attribute.pks != 0 }
    var hasPerformanceMonitoring: Bool { attributes & Attribute.perfmon != 0 }
    var noRBPModification: Bool { configFlags & ConfigFlag.noRBPModification != 0 }
    var hasFlexiblePendingVE: Bool { configFlags & ConfigFlag.flexiblePendingVE != 0 }
    var forbiddenGPABits: UInt64 { isWide ? 1 << 51 : 0x1F << 47 }

    struct Refusal: Error {
        var status: TDXStatus
        /// RCX for a CPUID refusal: leaf in bits 31:0, sub-leaf in bits 63:32.
        var rcx: UInt64?
        init(_ status: TDXStatus, rcx: UInt64? = nil) {
            self.status = status
            self.rcx = rcx
        }
    }

    init() {}

    /// Reads and checks in the order of reference §1.2.
    init(
        _ bytes: [UInt8], tdcxCount: Int, version: ModuleVersion, processor: ProcessorModel, tscAdjustChanged: Bool
    ) throws(Refusal) {
        func word(_ offset: Int) -> UInt64 {
            (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
        }
        func isZero(_ range: Range<Int>) -> Bool { bytes[range].allSatisfy { $0 == 0 } }
        func invalid(_ operand: Operand) -> Refusal { Refusal(.operandInvalid.with(operand)) }

        attributes = word(0)
        guard Self.isAttributes(attributes, version) else { throw invalid(.attributes) }
        xfam = word(8)
        guard Self.isXFAM(xfam, processor) else { throw invalid(.xfam) }
        maxVCPUs = UInt16(truncatingIfNeeded: word(16))
        guard maxVCPUs > 0 else { throw invalid(.maxVCPUs) }
        // TD partitioning is not modelled: no nested virtual machines.
        guard bytes[18] == 0 else { throw invalid(.numberOfL2VMs) }
        guard tdcxCount >= 6 else { throw Refusal(.tdcsNotAllocated) }
        guard isZero(20..<24) else { throw invalid(.rdx) }
        configFlags = word(32)
        guard configFlags & ~Self.allowedConfigFlags(version) == 0 else { throw invalid(.configFlags) }
        eptpControls = word(24)
        let walk = eptpControls >> 3 & 7
        guard eptpControls & ~0x3F == 0, eptpControls & 7 == 6, walk == 4 || (walk == 3 && configFlags & 1 == 0)
        else { throw invalid(.eptpControls) }
        tscFrequency = UInt16(truncatingIfNeeded: word(40))
        guard (4...400).contains(tscFrequency) else { throw invalid(.tscFrequency) }
        if tscAdjustChanged { throw Refusal(.inconsistentMSR.with(details: 0x3B)) }
        guard isZero(42..<80) else { throw invalid(.rdx) }
        mrConfigID = Array(bytes[80..<128])
        mrOwner = Array(bytes[128..<176])
        mrOwnerConfig = Array(bytes[176..<224])
        msrConfigControls = bytes[19]
        guard msrConfigControls & ~1 == 0 else { throw invalid(.rdx) }
        guard isZero(232..<256) else { throw invalid(.rdx) }
        let configured = CPUIDConfiguration.all.indices.map { index in
            let words = (0..<2).map { word(256 + 16 * index + 8 * $0) }
            return CPUIDWords(
                UInt32(truncatingIfNeeded: words[0]), UInt32(words[0] >> 32), UInt32(truncatingIfNeeded: words[1]),
                UInt32(words[1] >> 32))
        }
        cpuid = try VirtualCPUID(configured, self, processor)
        guard isZero(256 + 16 * CPUIDConfiguration.all.count..<1024) else { throw invalid(.rdx) }
        archCapabilities = word(224)
        guard archCapabilities == 0 || msrConfigControls & 1 != 0, archCapabilities & ~Self.archCapabilitiesMask == 0
        else { throw invalid(.archCapabilitiesConfig) }
    }

    /// Bits of IA32_ARCH_CAPABILITIES that TD_PARAMS chooses: SSB_NO, RRSBA, BHI_NO, PBRSB_NO.
    static let archCapabilitiesMask: UInt64 = 1 << 4 | 1 << 19 | 1 << 20 | 1 << 24

    /// CONFIG_FLAGS that may be 1.
    static func allowedConfigFlags(_ version: ModuleVersion) -> UInt64 {
        let base = ConfigFlag.wide | ConfigFlag.flexiblePendingVE | ConfigFlag.noRBPModification
        return version == .late ? base | ConfigFlag.late : base
    }

    /// ATTRIBUTES that may be 1 (SYS.RD ATTRIBUTES_FIXED1's complement is 0 here).
    static func allowedAttributes(_ version: ModuleVersion) -> UInt64 {
        let base =
            Attribute.debug | Attribute.septVEDisable | Attribute.migratable | Attribute.pks | Attribute.perfmon
        return version == .late ? base | Attribute.icssd | Attribute.lass : base
    }

    private static func isAttributes(_ value: UInt64, _ version: ModuleVersion) -> Bool {
        guard value & ~allowedAttributes(version) == 0 else { return false }
        let isMigratable = value & Attribute.migratable != 0
        return !(isMigratable && value & (Attribute.debug | Attribute.perfmon) != 0)
    }

    /// XFAM bits that must, and that may, be 1.
    static let requiredXFAM: UInt64 = 0x3
    static let allowedXFAM: UInt64 = 0x6DBE7

    private static func isXFAM(_ value: UInt64, _ processor: ProcessorModel) -> Bool {
        func together(_ mask: UInt64) -> Bool { value & mask == 0 || value & mask == mask }
        guard value & requiredXFAM == requiredXFAM, value & ~(allowedXFAM & processor.extendedStates) == 0
        else { return false }
        guard together(7 << 5), value & 7 << 5 == 0 || value & 4 != 0 else { return false }
        return together(3 << 11) && together(3 << 17)
    }

    /// The IA32_ARCH_CAPABILITIES that the TD sees.
    func virtualArchCapabilities(_ processor: ProcessorModel) -> UInt64 {
        let (ssbNo, rrsba, bhiNo, pbrsbNo): (UInt64, UInt64, UInt64, UInt64) = (1 << 4, 1 << 19, 1 << 20, 1 << 24)
        let tsxControl: UInt64 = 1 << 7
        // MCU control, package control, energy filtering, 16, FB_CLEAR, its control, 21 … 23 and all above 24 are 0.
        let hidden: UInt64 = 0x7 << 9 | 0x7 << 16 | 0x7 << 21 | ~((1 << 25) - 1)
        var value = processor.archCapabilities & ~hidden
        for bit in [ssbNo, bhiNo, pbrsbNo] where archCapabilities & bit == 0 { value &= ~bit }
        value |= archCapabilities & rrsba
        return cpuid.hasTSX ? value : value & ~tsxControl
    }
}
