// Class 12: metadata fields.
// Values and names: reference §3.2. One row is one condition; the row's text is what people read.

extension TDXStatus {
    /// METADATA_FIELD_ID_INCORRECT: The field id is unknown.
    @inlinable public static var metadataFieldIDIncorrect: TDXStatus { TDXStatus(0xC000_0C00_0000_0000) }
    /// METADATA_FIELD_NOT_WRITABLE: The field cannot be written by this caller.
    @inlinable public static var metadataFieldNotWritable: TDXStatus { TDXStatus(0xC000_0C01_0000_0000) }
    /// METADATA_FIELD_NOT_READABLE: The field cannot be read by this caller.
    @inlinable public static var metadataFieldNotReadable: TDXStatus { TDXStatus(0xC000_0C02_0000_0000) }
    /// METADATA_FIELD_VALUE_NOT_VALID: The value is not legal for the field.
    @inlinable public static var metadataFieldValueNotValid: TDXStatus { TDXStatus(0xC000_0C03_0000_0000) }
    /// METADATA_LIST_OVERFLOW: The list does not fit its buffer.
    @inlinable public static var metadataListOverflow: TDXStatus { TDXStatus(0xC000_0C04_0000_0000) }
    /// INVALID_METADATA_LIST_HEADER: The header of the list is malformed.
    @inlinable public static var invalidMetadataListHeader: TDXStatus { TDXStatus(0xC000_0C05_0000_0000) }
    /// REQUIRED_METADATA_FIELD_MISSING: A field that must be present is missing.
    @inlinable public static var requiredMetadataFieldMissing: TDXStatus { TDXStatus(0xC000_0C06_0000_0000) }
    /// METADATA_ELEMENT_SIZE_INCORRECT: The element size is not the field's.
    @inlinable public static var metadataElementSizeIncorrect: TDXStatus { TDXStatus(0xC000_0C07_0000_0000) }
    /// METADATA_LAST_ELEMENT_INCORRECT: The last element is not the field's.
    @inlinable public static var metadataLastElementIncorrect: TDXStatus { TDXStatus(0xC000_0C08_0000_0000) }
    /// METADATA_FIELD_CURRENTLY_NOT_WRITABLE: The field cannot be written in the present state.
    @inlinable public static var metadataFieldCurrentlyNotWritable: TDXStatus { TDXStatus(0xC000_0C09_0000_0000) }
    /// METADATA_WR_MASK_NOT_VALID: The write mask covers bits that cannot be written.
    @inlinable public static var metadataWrMaskNotValid: TDXStatus { TDXStatus(0xC000_0C0A_0000_0000) }
    /// METADATA_FIRST_FIELD_ID_IN_CONTEXT: RDX holds the first field id of the context.
    @inlinable public static var metadataFirstFieldIDInContext: TDXStatus { TDXStatus(0x0000_0C0B_0000_0000) }
    /// METADATA_FIELD_SKIP: The field is skipped.
    @inlinable public static var metadataFieldSkip: TDXStatus { TDXStatus(0x0000_0C0C_0000_0000) }
}

extension StatusRow {
    static let metadata: [StatusRow] = [
        StatusRow(
            0xC000_0C00, "METADATA_FIELD_ID_INCORRECT",
            cause: "The field id is unknown.",
            nextStep: "Check the id against the module's version."),
        StatusRow(
            0xC000_0C01, "METADATA_FIELD_NOT_WRITABLE",
            cause: "The field cannot be written by this caller.",
            nextStep: "Leave the field alone."),
        StatusRow(
            0xC000_0C02, "METADATA_FIELD_NOT_READABLE",
            cause: "The field cannot be read by this caller.",
            nextStep: "Many fields are readable in debug trust domains alone."),
        StatusRow(
            0xC000_0C03, "METADATA_FIELD_VALUE_NOT_VALID",
            cause: "The value is not legal for the field.",
            nextStep: "Correct the value."),
        StatusRow(
            0xC000_0C04, "METADATA_LIST_OVERFLOW",
            cause: "The list does not fit its buffer.",
            nextStep: "Give a larger buffer."),
        StatusRow(
            0xC000_0C05, "INVALID_METADATA_LIST_HEADER",
            cause: "The header of the list is malformed.",
            nextStep: "Correct the header."),
        StatusRow(
            0xC000_0C06, "REQUIRED_METADATA_FIELD_MISSING",
            cause: "A field that must be present is missing.",
            nextStep: "Add the field to the list."),
        StatusRow(
            0xC000_0C07, "METADATA_ELEMENT_SIZE_INCORRECT",
            cause: "The element size is not the field's.",
            nextStep: "Correct the size in the field id."),
        StatusRow(
            0xC000_0C08, "METADATA_LAST_ELEMENT_INCORRECT",
            cause: "The last element is not the field's.",
            nextStep: "Correct the last element."),
        StatusRow(
            0xC000_0C09, "METADATA_FIELD_CURRENTLY_NOT_WRITABLE",
            cause: "The field cannot be written in the present state.",
            nextStep: "Write it earlier or later."),
        StatusRow(
            0xC000_0C0A, "METADATA_WR_MASK_NOT_VALID",
            cause: "The write mask covers bits that cannot be written.",
            nextStep: "Narrow the mask."),
        StatusRow(
            0x0000_0C0B, "METADATA_FIRST_FIELD_ID_IN_CONTEXT",
            cause: "RDX holds the first field id of the context.",
            nextStep: "Continue with that id."),
        StatusRow(
            0x0000_0C0C, "METADATA_FIELD_SKIP",
            cause: "The field is skipped.",
            nextStep: "Continue with the next one."),
    ]
}
