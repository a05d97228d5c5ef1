// Class 7: the state of a vCPU.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// VCPU_STATE_INCORRECT: The vCPU's state does not allow the call.
    @inlinable public static var vcpuStateIncorrect: TDXStatus { TDXStatus(0xC000_0700_0000_0000) }
    /// VCPU_ASSOCIATED: The vCPU is associated with another logical processor.
    @inlinable public static var vcpuAssociated: TDXStatus { TDXStatus(0x8000_0701_0000_0000) }
    /// VCPU_NOT_ASSOCIATED: The vCPU is not associated with this logical processor.
    @inlinable public static var vcpuNotAssociated: TDXStatus { TDXStatus(0x8000_0702_0000_0000) }
    /// NO_VALID_VE_INFO: There is no virtualisation-exception information to read.
    @inlinable public static var noValidVEInfo: TDXStatus { TDXStatus(0xC000_0704_0000_0000) }
    /// MAX_VCPUS_EXCEEDED: The trust domain has as many vCPUs as TD_PARAMS allows.
    @inlinable public static var maxVCPUsExceeded: TDXStatus { TDXStatus(0xC000_0705_0000_0000) }
    /// TSC_ROLLBACK: The time-stamp counter went backwards.
    @inlinable public static var tscRollback: TDXStatus { TDXStatus(0xC000_0706_0000_0000) }
    /// INTERRUPTIBILITY_BLOCKED: The vCPU cannot take an event now.
    @inlinable public static var interruptibilityBlocked: TDXStatus { TDXStatus(0xC000_0707_0000_0000) }
    /// TD_VMCS_FIELD_NOT_INITIALIZED: A field of the vCPU's VMCS was never written.
    @inlinable public static var tdVMCSFieldNotInitialized: TDXStatus { TDXStatus(0xC000_0730_0000_0000) }
    /// TD_VMCS_FIELD_ERROR: A field of the vCPU's VMCS could not be accessed.
    @inlinable public static var tdVMCSFieldError: TDXStatus { TDXStatus(0xC000_0731_0000_0000) }
}

extension StatusRow {
    static let vcpu: [StatusRow] = [
        StatusRow(
            0xC000_0700, "VCPU_STATE_INCORRECT",
            cause: "The vCPU's state does not allow the call.",
            nextStep: "Initialise the vCPU first, or destroy one that is disabled."),
        StatusRow(
            0x8000_0701, "VCPU_ASSOCIATED",
            cause: "The vCPU is associated with another logical processor.",
            nextStep: "Flush it there with VP.FLUSH first."),
        StatusRow(
            0x8000_0702, "VCPU_NOT_ASSOCIATED",
            cause: "The vCPU is not associated with this logical processor.",
            nextStep: "Harmless in teardown; otherwise flush it where it last ran."),
        StatusRow(
            0xC000_0704, "NO_VALID_VE_INFO",
            cause: "There is no virtualisation-exception information to read.",
            nextStep: "Read it once after each exception."),
        StatusRow(
            0xC000_0705, "MAX_VCPUS_EXCEEDED",
            cause: "The trust domain has as many vCPUs as TD_PARAMS allows.",
            nextStep: "Create it with a larger MAX_VCPUS."),
        StatusRow(
            0xC000_0706, "TSC_ROLLBACK",
            cause: "The time-stamp counter went backwards.",
            nextStep: "Do not write the host's time-stamp counter."),
        StatusRow(
            0xC000_0707, "INTERRUPTIBILITY_BLOCKED",
            cause: "The vCPU cannot take an event now.",
            nextStep: "Enter it and retry later."),
        StatusRow(
            0xC000_0730, "TD_VMCS_FIELD_NOT_INITIALIZED",
            cause: "A field of the vCPU's VMCS was never written.",
            nextStep: "Write it before reading."),
        StatusRow(
            0xC000_0731, "TD_VMCS_FIELD_ERROR",
            cause: "A field of the vCPU's VMCS could not be accessed.",
            nextStep: "Check the field id."),
    ]
}
