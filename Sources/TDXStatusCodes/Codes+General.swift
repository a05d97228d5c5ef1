// Class 0: conditions of no particular object.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// SUCCESS: The call did what was asked.
    @inlinable public static var success: TDXStatus { TDXStatus(0x0000_0000_0000_0000) }
    /// NON_RECOVERABLE_VCPU: The vCPU met a condition it cannot continue from; it is disabled.
    @inlinable public static var nonRecoverableVCPU: TDXStatus { TDXStatus(0x4000_0001_0000_0000) }
    /// NON_RECOVERABLE_TD: The trust domain met a condition it cannot continue from.
    @inlinable public static var nonRecoverableTD: TDXStatus { TDXStatus(0x6000_0002_0000_0000) }
    /// INTERRUPTED_RESUMABLE: An interrupt was pending; the call kept the progress it made.
    @inlinable public static var interruptedResumable: TDXStatus { TDXStatus(0x8000_0003_0000_0000) }
    /// INTERRUPTED_RESTARTABLE: An interrupt was pending; nothing was changed.
    @inlinable public static var interruptedRestartable: TDXStatus { TDXStatus(0x8000_0004_0000_0000) }
    /// NON_RECOVERABLE_TD_NON_ACCESSIBLE: A machine check hit memory of the trust domain.
    @inlinable public static var nonRecoverableTDNonAccessible: TDXStatus { TDXStatus(0x6000_0005_0000_0000) }
    /// INVALID_RESUMPTION: A resumed call does not match the one that was interrupted.
    @inlinable public static var invalidResumption: TDXStatus { TDXStatus(0xC000_0006_0000_0000) }
    /// NON_RECOVERABLE_TD_WRONG_APIC_MODE: The logical processor is not in the APIC mode that the trust domain needs.
    @inlinable public static var nonRecoverableTDWrongAPICMode: TDXStatus { TDXStatus(0xE000_0007_0000_0000) }
    /// CROSS_TD_FAULT: A fault-type exit crossed from one virtual machine of the trust domain to another.
    @inlinable public static var crossTDFault: TDXStatus { TDXStatus(0x8000_0008_0000_0000) }
    /// CROSS_TD_TRAP: A trap-type exit crossed from one virtual machine of the trust domain to another.
    @inlinable public static var crossTDTrap: TDXStatus { TDXStatus(0x9000_0009_0000_0000) }
    /// NON_RECOVERABLE_TD_CORRUPTED_MD: Metadata of the trust domain is corrupted.
    @inlinable public static var nonRecoverableTDCorruptedMD: TDXStatus { TDXStatus(0x6000_000A_0000_0000) }
}

extension StatusRow {
    static let general: [StatusRow] = [
        StatusRow(
            0x0000_0000, "SUCCESS",
            cause: "The call did what was asked.",
            nextStep: "Nothing to do."),
        StatusRow(
            0x4000_0001, "NON_RECOVERABLE_VCPU",
            cause: "The vCPU met a condition it cannot continue from; it is disabled.",
            nextStep: "Destroy the trust domain; its other vCPUs may still be stopped in order."),
        StatusRow(
            0x6000_0002, "NON_RECOVERABLE_TD",
            cause: "The trust domain met a condition it cannot continue from.",
            nextStep: "Tear the trust domain down; only flush, key release and reclaim still work."),
        StatusRow(
            0x4000_0002, "NON_RECOVERABLE_TD",
            cause: "The trust domain met a condition it cannot continue from (value as Linux spells it).",
            nextStep: "Tear the trust domain down; only flush, key release and reclaim still work."),
        StatusRow(
            0x8000_0003, "INTERRUPTED_RESUMABLE",
            cause: "An interrupt was pending; the call kept the progress it made.",
            nextStep: "Call again with the resume parameter or the returned registers."),
        StatusRow(
            0x8000_0004, "INTERRUPTED_RESTARTABLE",
            cause: "An interrupt was pending; nothing was changed.",
            nextStep: "Call again with the same operands."),
        StatusRow(
            0x6000_0005, "NON_RECOVERABLE_TD_NON_ACCESSIBLE",
            cause: "A machine check hit memory of the trust domain.",
            nextStep: "Tear the trust domain down and look for memory errors in the host's log."),
        StatusRow(
            0xC000_0006, "INVALID_RESUMPTION",
            cause: "A resumed call does not match the one that was interrupted.",
            nextStep: "Start the operation again from its beginning."),
        StatusRow(
            0xE000_0007, "NON_RECOVERABLE_TD_WRONG_APIC_MODE",
            cause: "The logical processor is not in the APIC mode that the trust domain needs.",
            nextStep: "Tear the trust domain down; keep x2APIC enabled on the host."),
        StatusRow(
            0x6000_0007, "NON_RECOVERABLE_TD_WRONG_APIC_MODE",
            cause:
                "The logical processor is not in the APIC mode that the trust domain needs (value as Linux spells it).",
            nextStep: "Tear the trust domain down; keep x2APIC enabled on the host."),
        StatusRow(
            0x8000_0008, "CROSS_TD_FAULT",
            cause: "A fault-type exit crossed from one virtual machine of the trust domain to another.",
            nextStep: "Resume the virtual machine that should handle it."),
        StatusRow(
            0x9000_0009, "CROSS_TD_TRAP",
            cause: "A trap-type exit crossed from one virtual machine of the trust domain to another.",
            nextStep: "Resume the virtual machine that should handle it."),
        StatusRow(
            0x6000_000A, "NON_RECOVERABLE_TD_CORRUPTED_MD",
            cause: "Metadata of the trust domain is corrupted.",
            nextStep: "Tear the trust domain down and look for memory errors in the host's log."),
    ]
}
