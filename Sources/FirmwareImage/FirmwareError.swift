/// Why a firmware image, or a guest built from one, is refused. Every refusal names the field, the value that was found
/// and the limit that it breaks; nothing has been changed when one is thrown.
public struct FirmwareError: Error, Hashable, Sendable {
    /// What kind of rule was broken.
    public enum Reason: String, Hashable, Sendable, CaseIterable {
        /// The image is empty, too large, or no whole number of pages.
        case imageSize
        /// The table of GUIDed structures at the image's end contradicts itself.
        case guidedTable
        /// Neither the GUIDed table nor the legacy pointer leads to TDVF metadata.
        case metadataNotFound
        /// The metadata reaches beyond the image, or its length does not fit its number of sections.
        case metadataLength
        /// The bytes where the metadata should be do not begin with `TDVF`.
        case signature
        /// A metadata version other than 1.
        case version
        /// No section, or more than the limit.
        case sectionCount
        /// A section type that this version does not know.
        case sectionType
        /// Reserved attribute bits, or attributes that contradict each other or the section's contents.
        case sectionAttributes
        /// A section's raw data lies outside the image.
        case sectionOutsideImage
        /// An address or size is not a multiple of 4 KiB.
        case misaligned
        /// A size is zero, too small for what it must hold, or not allowed for the type of section.
        case sectionSize
        /// A range of addresses wraps around.
        case wraps
        /// Two sections claim the same guest memory.
        case overlap
        /// There is no BFV section, or none that holds the reset vector.
        case missingBFV
        /// There is more than one section of a type that may occur once.
        case duplicateSection
        /// The guest's memory size is zero, unaligned, or beyond the guest-physical address space.
        case memorySize
        /// A section lies where the guest has no memory of the kind that it needs.
        case outsideMemory
        /// The hand-off block needs more room than its section has.
        case handOffBlockOverflow
        /// The image needs something that no host supplies, such as a separate payload.
        case unsupported
    }

    public var reason: Reason
    /// Which field, such as `section 2 (TD_HOB) memory_address`.
    public var field: String
    /// What was found there.
    public var value: String
    /// What would have been right.
    public var limit: String

    public init(_ reason: Reason, field: String, value: String, limit: String) {
        self.reason = reason
        self.field = field
        self.value = value
        self.limit = limit
    }
}

extension FirmwareError: CustomStringConvertible {
    public var description: String { "\(field) is \(value); \(limit)" }
}

func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }
