// Class 6: the state of a trust domain.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// TD_FATAL: The trust domain is in its fatal state.
    @inlinable public static var tdFatal: TDXStatus { TDXStatus(0xE000_0604_0000_0000) }
    /// TD_NON_DEBUG: The call is for trust domains with the DEBUG attribute alone.
    @inlinable public static var tdNonDebug: TDXStatus { TDXStatus(0xC000_0605_0000_0000) }
    /// TDCS_NOT_ALLOCATED: Not all control pages (TDCX) have been added.
    @inlinable public static var tdcsNotAllocated: TDXStatus { TDXStatus(0xC000_0606_0000_0000) }
    /// LIFECYCLE_STATE_INCORRECT: The life-cycle state of the trust domain does not allow the call.
    @inlinable public static var lifecycleStateIncorrect: TDXStatus { TDXStatus(0xC000_0607_0000_0000) }
    /// OP_STATE_INCORRECT: The operation state of the trust domain does not allow the call.
    @inlinable public static var opStateIncorrect: TDXStatus { TDXStatus(0xC000_0608_0000_0000) }
    /// NO_VCPUS: The trust domain has no vCPU.
    @inlinable public static var noVCPUs: TDXStatus { TDXStatus(0xC000_0609_0000_0000) }
    /// DEBUG_MEM_NOT_WRITABLE: The memory cannot be written by the debug interface.
    @inlinable public static var debugMemNotWritable: TDXStatus { TDXStatus(0xC000_060A_0000_0000) }
    /// TDCX_NUM_INCORRECT: The number of control pages is not what the call needs.
    @inlinable public static var tdcxNumIncorrect: TDXStatus { TDXStatus(0xC000_0610_0000_0000) }
    /// X2APIC_ID_NOT_UNIQUE: Another vCPU has the x2APIC id that the low 32 bits show.
    @inlinable public static var x2apicIDNotUnique: TDXStatus { TDXStatus(0xC000_0621_0000_0000) }
    /// INCOMPATIBLE_MRTD_CONTEXT: The measurement under way cannot be handed to this module version.
    @inlinable public static var incompatibleMRTDContext: TDXStatus { TDXStatus(0xC000_0622_0000_0000) }
}

extension StatusRow {
    static let trustDomain: [StatusRow] = [
        StatusRow(
            0xE000_0604, "TD_FATAL",
            cause: "The trust domain is in its fatal state.",
            nextStep: "Tear it down: flush vCPUs, release the key, reclaim its pages."),
        StatusRow(
            0xC000_0605, "TD_NON_DEBUG",
            cause: "The call is for trust domains with the DEBUG attribute alone.",
            nextStep: "Create the trust domain with DEBUG for such access."),
        StatusRow(
            0xC000_0606, "TDCS_NOT_ALLOCATED",
            cause: "Not all control pages (TDCX) have been added.",
            nextStep: "Add them with MNG.ADDCX first."),
        StatusRow(
            0xC000_0607, "LIFECYCLE_STATE_INCORRECT",
            cause: "The life-cycle state of the trust domain does not allow the call.",
            nextStep: "Follow the order VPFLUSHDONE, CACHE.WB, KEY.FREEID, RECLAIM."),
        StatusRow(
            0xC000_0608, "OP_STATE_INCORRECT",
            cause: "The operation state of the trust domain does not allow the call.",
            nextStep: "Check whether the trust domain is initialised, finalised or being migrated."),
        StatusRow(
            0xC000_0609, "NO_VCPUS",
            cause: "The trust domain has no vCPU.",
            nextStep: "Initialise a vCPU before MR.FINALIZE."),
        StatusRow(
            0xC000_060A, "DEBUG_MEM_NOT_WRITABLE",
            cause: "The memory cannot be written by the debug interface.",
            nextStep: "Check the entry's state with MEM.SEPT.RD."),
        StatusRow(
            0xC000_0610, "TDCX_NUM_INCORRECT",
            cause: "The number of control pages is not what the call needs.",
            nextStep: "Add exactly the number of pages that SYS.RD reports."),
        StatusRow(
            0xC000_0621, "X2APIC_ID_NOT_UNIQUE",
            cause: "Another vCPU has the x2APIC id that the low 32 bits show.",
            nextStep: "Give each vCPU an id of its own."),
        StatusRow(
            0xC000_0622, "INCOMPATIBLE_MRTD_CONTEXT",
            cause: "The measurement under way cannot be handed to this module version.",
            nextStep: "Finalise or destroy the trust domain before the update."),
    ]
}
