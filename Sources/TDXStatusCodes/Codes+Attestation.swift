// Class 16: reports that a TD verifies.
// Values and names: include/auto_gen/tdx_error_codes_defs.h of intel/tdx-module, release 1.5.01.

extension StatusRow {
    static let attestation: [StatusRow] = [
        StatusRow(
            0xC000_1000, "INVALID_CPUSVN",
            cause: "The report was made with a security version that this processor has not.",
            nextStep: "Make the report on this machine."),
        StatusRow(
            0xC000_1001, "INVALID_REPORTMACSTRUCT",
            cause: "The authentication code of the report is wrong.",
            nextStep: "Make the report again on this machine."),
    ]
}
