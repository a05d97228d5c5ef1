// Class 11: the Secure EPT.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// EPT_WALK_FAILED: The walk ended above the requested level: a table is missing or a larger page is mapped.
    @inlinable public static var eptWalkFailed: TDXStatus { TDXStatus(0xC000_0B00_0000_0000) }
    /// EPT_ENTRY_FREE: The entry is free.
    @inlinable public static var eptEntryFree: TDXStatus { TDXStatus(0xC000_0B01_0000_0000) }
    /// EPT_ENTRY_NOT_FREE: The entry is in use.
    @inlinable public static var eptEntryNotFree: TDXStatus { TDXStatus(0xC000_0B02_0000_0000) }
    /// EPT_ENTRY_NOT_PRESENT: The entry is not a present leaf.
    @inlinable public static var eptEntryNotPresent: TDXStatus { TDXStatus(0xC000_0B03_0000_0000) }
    /// EPT_ENTRY_NOT_LEAF: The entry refers to a table.
    @inlinable public static var eptEntryNotLeaf: TDXStatus { TDXStatus(0xC000_0B04_0000_0000) }
    /// EPT_ENTRY_LEAF: The entry maps a page.
    @inlinable public static var eptEntryLeaf: TDXStatus { TDXStatus(0xC000_0B05_0000_0000) }
    /// GPA_RANGE_NOT_BLOCKED: The range is not blocked.
    @inlinable public static var gpaRangeNotBlocked: TDXStatus { TDXStatus(0xC000_0B06_0000_0000) }
    /// GPA_RANGE_ALREADY_BLOCKED: The range is blocked already.
    @inlinable public static var gpaRangeAlreadyBlocked: TDXStatus { TDXStatus(0x0000_0B07_0000_0000) }
    /// TLB_TRACKING_NOT_DONE: vCPUs may still hold translations of the range.
    @inlinable public static var tlbTrackingNotDone: TDXStatus { TDXStatus(0xC000_0B08_0000_0000) }
    /// EPT_INVALID_PROMOTE_CONDITIONS: The 512 pages are not contiguous, aligned and in one state.
    @inlinable public static var eptInvalidPromoteConditions: TDXStatus { TDXStatus(0xC000_0B09_0000_0000) }
    /// PAGE_ALREADY_ACCEPTED: The guest has accepted the page already.
    @inlinable public static var pageAlreadyAccepted: TDXStatus { TDXStatus(0x0000_0B0A_0000_0000) }
    /// PAGE_SIZE_MISMATCH: The page is mapped at another size than the guest named.
    @inlinable public static var pageSizeMismatch: TDXStatus { TDXStatus(0xC000_0B0B_0000_0000) }
    /// GPA_RANGE_BLOCKED: The range is blocked.
    @inlinable public static var gpaRangeBlocked: TDXStatus { TDXStatus(0xC000_0B0C_0000_0000) }
    /// EPT_ENTRY_STATE_INCORRECT: The entry's state does not allow the call.
    @inlinable public static var eptEntryStateIncorrect: TDXStatus { TDXStatus(0xC000_0B0D_0000_0000) }
    /// EPT_PAGE_NOT_FREE: The table still has used entries.
    @inlinable public static var eptPageNotFree: TDXStatus { TDXStatus(0xC000_0B0E_0000_0000) }
    /// L2_SEPT_WALK_FAILED: The walk of a nested virtual machine's tables ended early.
    @inlinable public static var l2SEPTWalkFailed: TDXStatus { TDXStatus(0xC000_0B0F_0000_0000) }
    /// L2_SEPT_ENTRY_NOT_FREE: An entry of a nested virtual machine's tables is in use.
    @inlinable public static var l2SEPTEntryNotFree: TDXStatus { TDXStatus(0xC000_0B10_0000_0000) }
    /// PAGE_ATTR_INVALID: The page attributes are not a legal combination.
    @inlinable public static var pageAttrInvalid: TDXStatus { TDXStatus(0xC000_0B11_0000_0000) }
    /// L2_SEPT_PAGE_NOT_PROVIDED: A table page for a nested virtual machine is missing.
    @inlinable public static var l2SEPTPageNotProvided: TDXStatus { TDXStatus(0xC000_0B12_0000_0000) }
}

extension StatusRow {
    static let secureEPT: [StatusRow] = [
        StatusRow(
            0xC000_0B00, "EPT_WALK_FAILED",
            cause: "The walk ended above the requested level: a table is missing or a larger page is mapped.",
            nextStep: "Add the missing tables, or use the level that RDX reports."),
        StatusRow(
            0xC000_0B01, "EPT_ENTRY_FREE",
            cause: "The entry is free.",
            nextStep: "Map the page first."),
        StatusRow(
            0xC000_0B02, "EPT_ENTRY_NOT_FREE",
            cause: "The entry is in use.",
            nextStep: "Remove what is mapped there first."),
        StatusRow(
            0xC000_0B03, "EPT_ENTRY_NOT_PRESENT",
            cause: "The entry is not a present leaf.",
            nextStep: "Map the page and let it be present."),
        StatusRow(
            0xC000_0B04, "EPT_ENTRY_NOT_LEAF",
            cause: "The entry refers to a table.",
            nextStep: "Use the level of the pages below it."),
        StatusRow(
            0xC000_0B05, "EPT_ENTRY_LEAF",
            cause: "The entry maps a page.",
            nextStep: "Use a level above it or demote the page."),
        StatusRow(
            0xC000_0B06, "GPA_RANGE_NOT_BLOCKED",
            cause: "The range is not blocked.",
            nextStep: "Run MEM.RANGE.BLOCK and MEM.TRACK first."),
        StatusRow(
            0x0000_0B07, "GPA_RANGE_ALREADY_BLOCKED",
            cause: "The range is blocked already.",
            nextStep: "Nothing to do."),
        StatusRow(
            0xC000_0B08, "TLB_TRACKING_NOT_DONE",
            cause: "vCPUs may still hold translations of the range.",
            nextStep: "Run MEM.TRACK and make every vCPU exit once."),
        StatusRow(
            0xC000_0B09, "EPT_INVALID_PROMOTE_CONDITIONS",
            cause: "The 512 pages are not contiguous, aligned and in one state.",
            nextStep: "Promote only uniform, contiguous ranges."),
        StatusRow(
            0x0000_0B0A, "PAGE_ALREADY_ACCEPTED",
            cause: "The guest has accepted the page already.",
            nextStep: "Nothing to do; guests treat it as a programming error if it was not expected."),
        StatusRow(
            0xC000_0B0B, "PAGE_SIZE_MISMATCH",
            cause: "The page is mapped at another size than the guest named.",
            nextStep: "Accept at the smaller size."),
        StatusRow(
            0xC000_0B0C, "GPA_RANGE_BLOCKED",
            cause: "The range is blocked.",
            nextStep: "Unblock it first."),
        StatusRow(
            0xC000_0B0D, "EPT_ENTRY_STATE_INCORRECT",
            cause: "The entry's state does not allow the call.",
            nextStep: "Compare RCX and RDX with the state that the call needs."),
        StatusRow(
            0xC000_0B0E, "EPT_PAGE_NOT_FREE",
            cause: "The table still has used entries.",
            nextStep: "Remove every page below it first."),
        StatusRow(
            0xC000_0B0F, "L2_SEPT_WALK_FAILED",
            cause: "The walk of a nested virtual machine's tables ended early.",
            nextStep: "Add that machine's tables first."),
        StatusRow(
            0xC000_0B10, "L2_SEPT_ENTRY_NOT_FREE",
            cause: "An entry of a nested virtual machine's tables is in use.",
            nextStep: "Allow existing entries, or remove it first."),
        StatusRow(
            0xC000_0B11, "PAGE_ATTR_INVALID",
            cause: "The page attributes are not a legal combination.",
            nextStep: "Use attributes that the low bits' virtual machine accepts."),
        StatusRow(
            0xC000_0B12, "L2_SEPT_PAGE_NOT_PROVIDED",
            cause: "A table page for a nested virtual machine is missing.",
            nextStep: "Provide a page for each machine that has an alias."),
    ]
}
