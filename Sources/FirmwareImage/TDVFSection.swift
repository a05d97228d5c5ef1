public import MemoryUnits

/// A part of guest memory that a TDVF image asks its host to prepare before the TD runs. Source: TDVF design guide and
/// td-shim specification, table TDVF_SECTION.
public struct TDVFSection: Hashable, Sendable {
    /// What a section is for.
    public enum Kind: UInt32, Hashable, Sendable, CaseIterable {
        /// Boot firmware volume: code. At least one; one of them holds the reset vector.
        case bfv = 0
        /// Configuration firmware volume: variables.
        case cfv = 1
        /// Where the hand-off block goes; at most one.
        case tdHOB = 2
        /// Zeroed memory for the firmware's own start.
        case tempMem = 3
        /// Memory that the firmware keeps; normally augmented and accepted by the guest.
        case permMem = 4
        /// A payload that the image carries.
        case payload = 5
        /// The payload's parameters.
        case payloadParam = 6

        /// The name in the specification.
        public var name: String {
            switch self {
            case .bfv: "BFV"
            case .cfv: "CFV"
            case .tdHOB: "TD_HOB"
            case .tempMem: "TempMem"
            case .permMem: "PermMem"
            case .payload: "Payload"
            case .payloadParam: "PayloadParam"
            }
        }
    }

    /// How the host prepares a section.
    public struct Attributes: OptionSet, Hashable, Sendable {
        public var rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// MR.EXTEND: the contents go into MRTD.
        public static let extendMeasurement = Self(rawValue: 1)
        /// PAGE.AUG: the pages are not added; the guest accepts them.
        public static let augment = Self(rawValue: 2)
        /// Every bit that has a meaning.
        public static let known: Self = [.extendMeasurement, .augment]
    }

    /// Position in the metadata, from 0.
    public var index: Int
    public var kind: Kind
    public var attributes: Attributes
    /// The bytes of the image that fill the start of the section; empty where the host supplies them or they are zero.
    public var rawData: Range<Int>
    /// Page aligned, never empty. What follows `rawData` is zero.
    public var memory: GuestPhysicalRange

    /// True where the contents go into MRTD.
    public var isMeasured: Bool { attributes.contains(.extendMeasurement) }
    /// True where the pages are left to the guest to accept.
    public var isAugmented: Bool { attributes.contains(.augment) }
    /// For messages, such as `section 2 (TD_HOB)`.
    public var label: String { "section \(index) (\(kind.name))" }
}
