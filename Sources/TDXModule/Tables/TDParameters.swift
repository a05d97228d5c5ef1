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
    var archCapabilities: UInt64 = 0
    /// EAX, EBX, ECX, EDX for each configurable leaf.
    var cpuid: [UInt32] = []

    /// Shared bit 51 instead of 47.
    var isWide: Bool { configFlags & 1 != 0 }
    /// Level of the Secure EPT's root entries: 3 or 4.
    var rootLevel: UInt64 { eptpControls >> 3 & 7 }
    var isDebug: Bool { attributes & 1 != 0 }
    var disablesVE: Bool { attributes & 1 << 28 != 0 }
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
    init(_ bytes: [UInt8], tdcxCount: Int, version: ModuleVersion, tscAdjustChanged: Bool) throws(Refusal) {
        func word(_ offset: Int) -> UInt64 {
            (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
        }
        func isZero(_ range: Range<Int>) -> Bool { bytes[range].allSatisfy { $0 == 0 } }
        func invalid(_ operand: Operand) -> Refusal { Refusal(.operandInvalid.with(operand)) }

        attributes = word(0)
        guard Self.isAttributes(attributes, version) else { throw invalid(.attributes) }
        xfam = word(8)
        guard Self.isXFAM(xfam) else { throw invalid(.xfam) }
        maxVCPUs = UInt16(truncatingIfNeeded: word(16))
        guard maxVCPUs > 0 else { throw invalid(.maxVCPUs) }
        // TD partitioning is not modelled: no nested virtual machines.
        guard bytes[18] == 0 else { throw invalid(.numberOfL2VMs) }
        guard tdcxCount >= 6 else { throw Refusal(.tdcsNotAllocated) }
        guard isZero(20..<24) else { throw invalid(.rdx) }
        configFlags = word(32)
        guard configFlags & ~(version == .late ? 0x9F : 0x7) == 0 else { throw invalid(.configFlags) }
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
        for (index, leaf) in CPUIDConfiguration.all.enumerated() {
            let at = 256 + 16 * index
            let values = [word(at), word(at) >> 32, word(at + 8), word(at + 8) >> 32].map {
                UInt32(truncatingIfNeeded: $0)
            }
            for (value, mask) in zip(values, [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]) where value & ~mask != 0 {
                throw Refusal(
                    .operandInvalid.with(.cpuidConfig), rcx: UInt64(leaf.leaf) | UInt64(leaf.subleaf) << 32)
            }
            cpuid += values
        }
        guard isZero(256 + 16 * CPUIDConfiguration.all.count..<1024) else { throw invalid(.rdx) }
        archCapabilities = word(224)
        guard archCapabilities == 0 || msrConfigControls & 1 != 0 else { throw invalid(.archCapabilitiesConfig) }
    }

    /// ATTRIBUTES that may be 1 (SYS.RD ATTRIBUTES_FIXED1's complement is 0 here).
    static func allowedAttributes(_ version: ModuleVersion) -> UInt64 {
        let base: UInt64 = 1 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 63
        return version == .late ? base | 1 << 16 | 1 << 27 : base
    }

    private static func isAttributes(_ value: UInt64, _ version: ModuleVersion) -> Bool {
        guard value & ~allowedAttributes(version) == 0 else { return false }
        let isMigratable = value & 1 << 29 != 0
        return !(isMigratable && value & (1 | 1 << 63) != 0)
    }

    /// XFAM bits that must, and that may, be 1.
    static let requiredXFAM: UInt64 = 0x3
    static let allowedXFAM: UInt64 = 0x6DBE7

    private static func isXFAM(_ value: UInt64) -> Bool {
        func together(_ mask: UInt64) -> Bool { value & mask == 0 || value & mask == mask }
        guard value & requiredXFAM == requiredXFAM, value & ~allowedXFAM == 0 else { return false }
        guard together(7 << 5), value & 7 << 5 == 0 || value & 4 != 0 else { return false }
        return together(3 << 11) && together(3 << 17)
    }
}
