// Class 2: locks and transient conditions. A repetition may succeed.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// OPERAND_BUSY: Another call or a running vCPU holds the lock of the named object.
    @inlinable public static var operandBusy: TDXStatus { TDXStatus(0x8000_0200_0000_0000) }
    /// PREVIOUS_TLB_EPOCH_BUSY: A vCPU that entered in the previous TLB epoch is still inside the guest.
    @inlinable public static var previousTLBEpochBusy: TDXStatus { TDXStatus(0x8000_0201_0000_0000) }
    /// SYS_BUSY: Another system-wide call is under way.
    @inlinable public static var sysBusy: TDXStatus { TDXStatus(0x8000_0202_0000_0000) }
    /// RND_NO_ENTROPY: The processor's random-number generator gave nothing in time.
    @inlinable public static var rndNoEntropy: TDXStatus { TDXStatus(0x8000_0203_0000_0000) }
    /// OPERAND_BUSY_HOST_PRIORITY: The host has priority on the named lock, so the guest's attempt was refused.
    @inlinable public static var operandBusyHostPriority: TDXStatus { TDXStatus(0x8000_0204_0000_0000) }
    /// HOST_PRIORITY_BUSY_TIMEOUT: The guest kept meeting the host's priority for longer than its timeout.
    @inlinable public static var hostPriorityBusyTimeout: TDXStatus { TDXStatus(0x9000_0205_0000_0000) }
    /// INTERRUPTED_BUSY: The call was interrupted while a lock was held.
    @inlinable public static var interruptedBusy: TDXStatus { TDXStatus(0x8000_0206_0000_0000) }
}

extension StatusRow {
    static let busy: [StatusRow] = [
        StatusRow(
            0x8000_0200, "OPERAND_BUSY",
            cause: "Another call or a running vCPU holds the lock of the named object.",
            nextStep: "Retry; if a running vCPU holds it, make it leave the guest first."),
        StatusRow(
            0x8000_0201, "PREVIOUS_TLB_EPOCH_BUSY",
            cause: "A vCPU that entered in the previous TLB epoch is still inside the guest.",
            nextStep: "Make every vCPU exit once, then track again."),
        StatusRow(
            0x8000_0202, "SYS_BUSY",
            cause: "Another system-wide call is under way.",
            nextStep: "Retry after it has ended."),
        StatusRow(
            0x8000_0203, "RND_NO_ENTROPY",
            cause: "The processor's random-number generator gave nothing in time.",
            nextStep: "Retry after a short pause."),
        StatusRow(
            0x8000_0204, "OPERAND_BUSY_HOST_PRIORITY",
            cause: "The host has priority on the named lock, so the guest's attempt was refused.",
            nextStep: "Let the host's call succeed; the guest retries."),
        StatusRow(
            0x9000_0205, "HOST_PRIORITY_BUSY_TIMEOUT",
            cause: "The guest kept meeting the host's priority for longer than its timeout.",
            nextStep: "Finish the host's retried call, then enter the vCPU again."),
        StatusRow(
            0x8000_0206, "INTERRUPTED_BUSY",
            cause: "The call was interrupted while a lock was held.",
            nextStep: "Retry."),
    ]
}
