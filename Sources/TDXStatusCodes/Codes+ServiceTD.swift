// Class 13: TDs that serve other TDs.
// Values and names: include/auto_gen/tdx_error_codes_defs.h of intel/tdx-module, release 1.5.01.

extension StatusRow {
    static let serviceTD: [StatusRow] = [
        StatusRow(
            0xC000_0D00, "SERVTD_ALREADY_BOUND_FOR_TYPE",
            cause: "A service TD of this type is bound to the TD already.",
            nextStep: "Use the binding that exists."),
        StatusRow(
            0xC000_0D01, "SERVTD_TYPE_MISMATCH",
            cause: "The service TD type is not that of the binding.",
            nextStep: "Pass the type of the binding."),
        StatusRow(
            0xC000_0D02, "SERVTD_ATTR_MISMATCH",
            cause: "The service TD attributes are not those of the binding.",
            nextStep: "Pass the attributes of the binding."),
        StatusRow(
            0xC000_0D03, "SERVTD_INFO_HASH_MISMATCH",
            cause: "The service TD has other measurements than the binding names.",
            nextStep: "Start the service TD that was bound."),
        StatusRow(
            0xC000_0D04, "SERVTD_UUID_MISMATCH",
            cause: "The service TD has another UUID than the binding names.",
            nextStep: "Bind the running service TD again."),
        StatusRow(
            0xC000_0D05, "SERVTD_NOT_BOUND",
            cause: "No service TD is bound at this slot.",
            nextStep: "Bind the service TD first."),
        StatusRow(
            0xC000_0D06, "SERVTD_BOUND",
            cause: "A service TD is bound at this slot, which the call does not allow.",
            nextStep: "Use another slot."),
        StatusRow(
            0xC000_0D07, "TARGET_UUID_MISMATCH",
            cause: "The target TD has another UUID than the service TD passed.",
            nextStep: "Read the binding handle and UUID again."),
        StatusRow(
            0xC000_0D08, "TARGET_UUID_UPDATED",
            cause: "The target TD got another UUID, by an import; R10 to R13 hold it.",
            nextStep: "Repeat the call with the new UUID."),
    ]
}
