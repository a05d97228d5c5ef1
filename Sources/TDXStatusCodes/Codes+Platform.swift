// Class 9: the platform's CPUID and MSRs.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// LIMIT_CPUID_MAXVAL_SET: IA32_MISC_ENABLE limits CPUID.
    @inlinable public static var limitCPUIDMaxvalSet: TDXStatus { TDXStatus(0xC000_0901_0000_0000) }
    /// INCONSISTENT_MSR: The MSR that the low 32 bits name differs between processors or changed since initialisation.
    @inlinable public static var inconsistentMSR: TDXStatus { TDXStatus(0xC000_0920_0000_0000) }
    /// INCORRECT_MSR_VALUE: The MSR that the low 32 bits name has a value the module refuses.
    @inlinable public static var incorrectMSRValue: TDXStatus { TDXStatus(0xC000_0921_0000_0000) }
}

extension StatusRow {
    static let platform: [StatusRow] = [
        StatusRow(
            0xC000_0901, "LIMIT_CPUID_MAXVAL_SET",
            cause: "IA32_MISC_ENABLE limits CPUID.",
            nextStep: "Clear the BOOT_NT4 bit on every processor."),
        StatusRow(
            0xC000_0920, "INCONSISTENT_MSR",
            cause: "The MSR that the low 32 bits name differs between processors or changed since initialisation.",
            nextStep: "Restore the MSR's value on every processor."),
        StatusRow(
            0xC000_0921, "INCORRECT_MSR_VALUE",
            cause: "The MSR that the low 32 bits name has a value the module refuses.",
            nextStep: "Correct the firmware's set-up."),
        StatusRow(
            0xC000_0900, "INCORRECT_CPUID_VALUE",
            cause: "A CPUID value of the processor is not what the module needs; RCX names the leaf.",
            nextStep: "Use a processor and firmware that the module supports."),
        StatusRow(
            0xC000_0902, "INCONSISTENT_CPUID_FIELD",
            cause: "A CPUID value differs among logical processors; RCX names the leaf.",
            nextStep: "Update the firmware and microcode of all packages."),
        StatusRow(
            0xC000_0903, "CPUID_MAX_SUBLEAVES_UNRECOGNIZED",
            cause: "A CPUID leaf has more sub-leaves than the module knows.",
            nextStep: "Use a module of this processor's generation."),
        StatusRow(
            0xC000_0904, "CPUID_LEAF_1F_FORMAT_UNRECOGNIZED",
            cause: "CPUID leaf 0x1F describes a topology that the module does not know.",
            nextStep: "Use a module of this processor's generation."),
        StatusRow(
            0xC000_0905, "INVALID_WBINVD_SCOPE",
            cause: "WBINVD does not reach all caches of a package.",
            nextStep: "Correct the topology that the firmware configures."),
        StatusRow(
            0xC000_0906, "INVALID_PKG_ID",
            cause: "The package number exceeds what the module holds.",
            nextStep: "Use a machine of at most 8 packages."),
        StatusRow(
            0xC000_0907, "ENABLE_MONITOR_FSM_NOT_SET",
            cause: "IA32_MISC_ENABLE switches MONITOR and MWAIT off.",
            nextStep: "Enable the monitor in the firmware."),
        StatusRow(
            0xC000_0908, "CPUID_LEAF_NOT_SUPPORTED",
            cause: "The processor lacks a CPUID leaf that the module needs.",
            nextStep: "Use a processor that the module supports."),
        StatusRow(
            0xC000_0910, "SMRR_NOT_LOCKED",
            cause: "The system-management range registers are not locked.",
            nextStep: "Update the firmware."),
        StatusRow(
            0xC000_0911, "INVALID_SMRR_CONFIGURATION",
            cause: "The system-management range registers are not configured as the module needs.",
            nextStep: "Update the firmware."),
        StatusRow(
            0xC000_0912, "SMRR_OVERLAPS_CMR",
            cause: "System-management memory overlaps convertible memory.",
            nextStep: "Update the firmware."),
        StatusRow(
            0xC000_0913, "SMRR_LOCK_NOT_SUPPORTED",
            cause: "The processor cannot lock the system-management range registers.",
            nextStep: "Use a processor that the module supports."),
        StatusRow(
            0xC000_0914, "SMRR_NOT_SUPPORTED",
            cause: "The processor has no system-management range registers.",
            nextStep: "Use a processor that the module supports."),
        StatusRow(
            0xC000_0930, "SEAMREPORT_NOT_AVAILABLE",
            cause: "The processor cannot make SEAM reports.",
            nextStep: "Use a processor that the module supports."),
        StatusRow(
            0xC000_0931, "SEAMDB_GETREF_NOT_AVAILABLE",
            cause: "The processor has no SEAM database references.",
            nextStep: "Use a processor that the module supports."),
        StatusRow(
            0xC000_0932, "SEAMDB_REPORT_NOT_AVAILABLE",
            cause: "The processor cannot report from its SEAM database.",
            nextStep: "Use a processor that the module supports."),
        StatusRow(
            0xC000_0933, "SEAMVERIFYREPORT_NOT_AVAILABLE",
            cause: "The processor cannot verify SEAM reports.",
            nextStep: "Do without local attestation."),
    ]
}
