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
    ]
}
