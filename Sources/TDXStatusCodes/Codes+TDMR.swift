// Class 10: TDMRs, PAMT areas and CMRs.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// INVALID_TDMR: A TDMR has a bad base or size.
    @inlinable public static var invalidTDMR: TDXStatus { TDXStatus(0xC000_0A00_0000_0000) }
    /// NON_ORDERED_TDMR: TDMRs overlap or are not in ascending order.
    @inlinable public static var nonOrderedTDMR: TDXStatus { TDXStatus(0xC000_0A01_0000_0000) }
    /// TDMR_OUTSIDE_CMRS: A part of a TDMR that is not reserved lies outside convertible memory.
    @inlinable public static var tdmrOutsideCMRs: TDXStatus { TDXStatus(0xC000_0A02_0000_0000) }
    /// TDMR_ALREADY_INITIALIZED: The TDMR is initialised to its end.
    @inlinable public static var tdmrAlreadyInitialized: TDXStatus { TDXStatus(0x0000_0A03_0000_0000) }
    /// INVALID_PAMT: A PAMT area has a bad base or size.
    @inlinable public static var invalidPAMT: TDXStatus { TDXStatus(0xC000_0A10_0000_0000) }
    /// PAMT_OUTSIDE_CMRS: A PAMT area lies outside convertible memory.
    @inlinable public static var pamtOutsideCMRs: TDXStatus { TDXStatus(0xC000_0A11_0000_0000) }
    /// PAMT_OVERLAP: A PAMT area overlaps a TDMR's usable part or another PAMT area.
    @inlinable public static var pamtOverlap: TDXStatus { TDXStatus(0xC000_0A12_0000_0000) }
    /// INVALID_RESERVED_IN_TDMR: A reserved area of a TDMR is misaligned or outside it.
    @inlinable public static var invalidReservedInTDMR: TDXStatus { TDXStatus(0xC000_0A20_0000_0000) }
    /// NON_ORDERED_RESERVED_IN_TDMR: Reserved areas overlap or are not in ascending order.
    @inlinable public static var nonOrderedReservedInTDMR: TDXStatus { TDXStatus(0xC000_0A21_0000_0000) }
    /// CMR_LIST_INVALID: The list of convertible memory is malformed.
    @inlinable public static var cmrListInvalid: TDXStatus { TDXStatus(0xC000_0A22_0000_0000) }
}

extension StatusRow {
    static let tdmr: [StatusRow] = [
        StatusRow(
            0xC000_0A00, "INVALID_TDMR",
            cause: "A TDMR has a bad base or size.",
            nextStep: "Align it to 1 GiB and do not let it wrap."),
        StatusRow(
            0xC000_0A01, "NON_ORDERED_TDMR",
            cause: "TDMRs overlap or are not in ascending order.",
            nextStep: "Sort them and let them not overlap."),
        StatusRow(
            0xC000_0A02, "TDMR_OUTSIDE_CMRS",
            cause: "A part of a TDMR that is not reserved lies outside convertible memory.",
            nextStep: "Mark the part as reserved."),
        StatusRow(
            0x0000_0A03, "TDMR_ALREADY_INITIALIZED",
            cause: "The TDMR is initialised to its end.",
            nextStep: "Nothing to do."),
        StatusRow(
            0xC000_0A10, "INVALID_PAMT",
            cause: "A PAMT area has a bad base or size.",
            nextStep: "Align it to 4 KiB and give it the full size."),
        StatusRow(
            0xC000_0A11, "PAMT_OUTSIDE_CMRS",
            cause: "A PAMT area lies outside convertible memory.",
            nextStep: "Place it in convertible memory."),
        StatusRow(
            0xC000_0A12, "PAMT_OVERLAP",
            cause: "A PAMT area overlaps a TDMR's usable part or another PAMT area.",
            nextStep: "Reserve its place in the TDMR."),
        StatusRow(
            0xC000_0A20, "INVALID_RESERVED_IN_TDMR",
            cause: "A reserved area of a TDMR is misaligned or outside it.",
            nextStep: "Align it to 4 KiB inside the TDMR."),
        StatusRow(
            0xC000_0A21, "NON_ORDERED_RESERVED_IN_TDMR",
            cause: "Reserved areas overlap or are not in ascending order.",
            nextStep: "Sort them and let them not overlap."),
        StatusRow(
            0xC000_0A22, "CMR_LIST_INVALID",
            cause: "The list of convertible memory is malformed.",
            nextStep: "Correct the firmware's set-up."),
    ]
}
