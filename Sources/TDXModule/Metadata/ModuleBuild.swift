internal import TDXStatusCodes

/// What a read or write of a metadata field came to.
enum MetadataResult {
    case value(UInt64)
    case refused(TDXStatus)
}

/// The release that is modelled. Its build date and number are those of the published tag: a public build has number 0 and
/// the date of the day it was made.
enum ModuleBuild {
    static let vendor: UInt64 = 0x8086
    static let major: UInt64 = 1
    static let minor: UInt64 = 5
    static let update: UInt64 = 1
    /// Day of the tag TDX_1.5.01, as decimal digits YYYYMMDD.
    static let date: UInt64 = 20_240_222
    static let number: UInt64 = 0
    /// Version of the data that SYS.SHUTDOWN hands to SYS.UPDATE.
    static let handoffVersion: UInt64 = 0
}

/// Bits of TDX_FEATURES0.
enum ModuleFeatures {
    static let migration: UInt64 = 1 << 0
    static let preserving: UInt64 = 1 << 1
    static let serviceTD: UInt64 = 1 << 2
    static let guestVCPUFields: UInt64 = 1 << 3
    static let relaxedConcurrency: UInt64 = 1 << 4
    static let cpuidControl: UInt64 = 1 << 5
    static let partitioning: UInt64 = 1 << 7
    static let entryEnhancements: UInt64 = 1 << 9
    static let hostPriorityLocks: UInt64 = 1 << 10
    static let archCapabilities: UInt64 = 1 << 11
    static let pendingViolation: UInt64 = 1 << 16
    static let signatureConfiguration: UInt64 = 1 << 17
    static let noRBPModification: UInt64 = 1 << 18
    static let nestedFlush: UInt64 = 1 << 19
    /// [late]
    static let topologyEnumeration: UInt64 = 1 << 20
    static let dynamicPAMT: UInt64 = 1 << 36
    static let uninterruptedDemotion: UInt64 = 1 << 51

    /// The published word; bit 8 (local attestation) needs a processor with SEAMVERIFYREPORT, which the model lacks.
    static func word0(isLate: Bool) -> UInt64 {
        let base =
            migration | preserving | serviceTD | guestVCPUFields | relaxedConcurrency | cpuidControl | partitioning
            | entryEnhancements | hostPriorityLocks | archCapabilities | pendingViolation | signatureConfiguration
            | noRBPModification | nestedFlush
        return isLate ? base | topologyEnumeration | dynamicPAMT | uninterruptedDemotion : base
    }
}

/// Limits of the published module.
enum ModuleLimits {
    static let convertibleRegions = 32
    static let tdmrs = 64
    static let reservedAreas = 16
    static let pamtEntrySize = 16
    /// Pages of TDCS and of TDVPS without nested VMs.
    static let minimumControlPages = 6
    static let minimumVCPUPages = 6
}
