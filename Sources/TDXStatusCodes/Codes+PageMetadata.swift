// Class 3: page metadata (PAMT).
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// PAGE_METADATA_INCORRECT: The physical page is not of the type or size that the call needs: free where it must be
    /// owned, or owned where it must be free.
    @inlinable public static var pageMetadataIncorrect: TDXStatus { TDXStatus(0xC000_0300_0000_0000) }
    /// PAGE_ALREADY_FREE: The page is free already.
    @inlinable public static var pageAlreadyFree: TDXStatus { TDXStatus(0x0000_0301_0000_0000) }
    /// PAGE_NOT_OWNED_BY_TD: The page belongs to another trust domain.
    @inlinable public static var pageNotOwnedByTD: TDXStatus { TDXStatus(0xC000_0302_0000_0000) }
    /// PAGE_NOT_FREE: The page is in use.
    @inlinable public static var pageNotFree: TDXStatus { TDXStatus(0xC000_0303_0000_0000) }
    /// HPA_RANGE_NOT_FREE: The 2 MiB range already has PAMT pages or is in use.
    @inlinable public static var hpaRangeNotFree: TDXStatus { TDXStatus(0xC000_0304_0000_0000) }
    /// NO_PAMT_PAGE_PAIR: The 2 MiB range has no pair of PAMT pages.
    @inlinable public static var noPAMTPagePair: TDXStatus { TDXStatus(0xC000_0305_0000_0000) }
    /// PAMT_PAGE_NOT_EMPTY: A page of the 2 MiB range is still in use.
    @inlinable public static var pamtPageNotEmpty: TDXStatus { TDXStatus(0xC000_0306_0000_0000) }
    /// INTERRUPTED_PAMT: An interrupt was pending while PAMT pages were handled.
    @inlinable public static var interruptedPAMT: TDXStatus { TDXStatus(0x8000_0307_0000_0000) }
    /// MISSING_PAMT_PAGE_PAIR: The 2 MiB range of the page has no pair of PAMT pages yet.
    @inlinable public static var missingPAMTPagePair: TDXStatus { TDXStatus(0x8000_0308_0000_0000) }
    /// TD_ASSOCIATED_PAGES_EXIST: Pages of the trust domain are still assigned to it.
    @inlinable public static var tdAssociatedPagesExist: TDXStatus { TDXStatus(0xC000_0400_0000_0000) }
}

extension StatusRow {
    static let pageMetadata: [StatusRow] = [
        StatusRow(
            0xC000_0300, "PAGE_METADATA_INCORRECT",
            cause:
                "The physical page is not of the type or size that the call needs: free where it must be owned, or "
                + "owned where it must be free.",
            nextStep: "Read its type with PHYMEM.PAGE.RDMD; do not hand out a page twice."),
        StatusRow(
            0x0000_0301, "PAGE_ALREADY_FREE",
            cause: "The page is free already.",
            nextStep: "Nothing to do."),
        StatusRow(
            0xC000_0302, "PAGE_NOT_OWNED_BY_TD",
            cause: "The page belongs to another trust domain.",
            nextStep: "Check which trust domain the address was taken from."),
        StatusRow(
            0xC000_0303, "PAGE_NOT_FREE",
            cause: "The page is in use.",
            nextStep: "Choose a free page or release this one."),
        StatusRow(
            0xC000_0304, "HPA_RANGE_NOT_FREE",
            cause: "The 2 MiB range already has PAMT pages or is in use.",
            nextStep: "Do not add PAMT pages twice for one range."),
        StatusRow(
            0xC000_0305, "NO_PAMT_PAGE_PAIR",
            cause: "The 2 MiB range has no pair of PAMT pages.",
            nextStep: "Remove PAMT pages only from ranges that were given them."),
        StatusRow(
            0xC000_0306, "PAMT_PAGE_NOT_EMPTY",
            cause: "A page of the 2 MiB range is still in use.",
            nextStep: "Free every page of the range first."),
        StatusRow(
            0x8000_0307, "INTERRUPTED_PAMT",
            cause: "An interrupt was pending while PAMT pages were handled.",
            nextStep: "Call again with the returned registers."),
        StatusRow(
            0x8000_0308, "MISSING_PAMT_PAGE_PAIR",
            cause: "The 2 MiB range of the page has no pair of PAMT pages yet.",
            nextStep: "Call PHYMEM.PAMT.ADD for the range and retry."),
        StatusRow(
            0xC000_0400, "TD_ASSOCIATED_PAGES_EXIST",
            cause: "Pages of the trust domain are still assigned to it.",
            nextStep: "Reclaim every page before its root page (TDR)."),
    ]
}
