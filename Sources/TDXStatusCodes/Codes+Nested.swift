// Class 17: virtual machines inside a TD.
// Values and names: include/auto_gen/tdx_error_codes_defs.h of intel/tdx-module, release 1.5.01.

extension StatusRow {
    static let nested: [StatusRow] = [
        StatusRow(
            0x0000_1100, "L2_EXIT_HOST_ROUTED_ASYNC",
            cause: "The nested VM left for the host, asynchronously.",
            nextStep: "Enter the nested VM again."),
        StatusRow(
            0x0000_1101, "L2_EXIT_HOST_ROUTED_TDVMCALL",
            cause: "The nested VM left for the host by TDVMCALL.",
            nextStep: "Enter the nested VM again."),
        StatusRow(
            0x0000_1102, "L2_EXIT_PENDING_INTERRUPT",
            cause: "The nested VM left because an interrupt waits for its parent.",
            nextStep: "Take the interrupt, then enter the nested VM again."),
        StatusRow(
            0x0000_1120, "PENDING_INTERRUPT",
            cause: "An interrupt waits for the guest; no nested VM was entered.",
            nextStep: "Take the interrupt, then enter the nested VM again."),
        StatusRow(
            0x0000_1140, "TD_EXIT_BEFORE_L2_ENTRY",
            cause: "The TD left before its nested VM was entered.",
            nextStep: "Handle the exit and enter the vCPU again."),
        StatusRow(
            0x0000_1141, "TD_EXIT_ON_L2_VM_EXIT",
            cause: "The TD left on an exit of its nested VM.",
            nextStep: "Handle the exit and enter the vCPU again."),
        StatusRow(
            0x0000_1142, "TD_EXIT_ON_L2_TO_L1",
            cause: "The TD left on the way from its nested VM to the parent.",
            nextStep: "Handle the exit and enter the vCPU again."),
        StatusRow(
            0xC000_1160, "GLA_NOT_CANONICAL",
            cause: "A guest-linear address is not canonical.",
            nextStep: "Correct the address."),
    ]
}
