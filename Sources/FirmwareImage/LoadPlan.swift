public import MemoryUnits

/// What is loaded into a TD before it runs, in order. The order is the metadata's, as QEMU and Linux use it, and
/// decides MRTD; within a run the pages ascend, and each page is added and then, where the run is measured, extended
/// before the next page is added.
public struct LoadPlan: Sendable {
    /// Consecutive pages of one section.
    public struct Run: Sendable {
        public var section: TDVFSection
        /// Page aligned, never empty.
        public var range: GuestPhysicalRange
        /// The first bytes of the run; what follows them, up to the run's size, is zero. Shares the image's storage.
        public var content: ArraySlice<UInt8>
        /// True where every page goes into MRTD with its contents; an unmeasured page's address still does.
        public var isMeasured: Bool

        /// Copies `destination.count` bytes of the run, from `offset` on, zeroes included.
        /// - Precondition: `offset` and the end of what is copied lie inside the run.
        public func copyBytes(from offset: ByteCount, into destination: UnsafeMutableRawBufferPointer) {
            precondition(
                offset <= range.size && UInt64(destination.count) <= (range.size - offset).rawValue,
                "a copy reaches past the run")
            let first = Int(min(offset.rawValue, UInt64(content.count)))
            let part = content.dropFirst(first).prefix(destination.count)
            // In bounds: `part` is no longer than `destination`, and what is cleared begins where it ends.
            destination.copyBytes(from: part)
            UnsafeMutableRawBufferPointer(rebasing: destination[part.count...]).initializeMemory(
                as: UInt8.self, repeating: 0)
        }
    }

    /// Pages that are added, in order.
    public let runs: [Run]
    /// Sections whose pages are not added: the guest accepts them.
    public let augmented: [GuestPhysicalRange]
    /// The hand-off block that one of the runs carries; nil for an image without a TD_HOB section.
    public let handOffBlock: TDHandOffBlock?

    /// What the vCPUs are given in RCX and R8: the hand-off block's address, 0 without one.
    public var initialRCX: UInt64 { handOffBlock?.address.rawValue ?? 0 }
    /// All that is added.
    public var addedSize: ByteCount { runs.reduce(.zero) { $0 + $1.range.size } }
    /// The part of it that is measured with its contents.
    public var measuredSize: ByteCount { runs.reduce(.zero) { $1.isMeasured ? $0 + $1.range.size : $0 } }

    /// The plan of a TD without firmware: nothing is added, and all memory is the guest's to accept.
    public static var empty: Self { Self(runs: [], augmented: [], handOffBlock: nil) }

    private init(runs: [Run], augmented: [GuestPhysicalRange], handOffBlock: TDHandOffBlock?) {
        self.runs = runs
        self.augmented = augmented
        self.handOffBlock = handOffBlock
    }

    /// Checks the image's sections against the guest's memory and plans their loading. BFV and CFV may lie in RAM or
    /// in the firmware's region, every other section must lie in RAM, each in one region.
    public init(image: TDVFImage, layout: GuestMemoryLayout) throws(FirmwareError) {
        for section in image.sections { try Self.check(section, in: layout) }

        var block: TDHandOffBlock?
        if let location = image.handOffBlockSection?.memory {
            let added = image.sections.filter { !$0.isAugmented }.map(\.memory)
            block = try TDHandOffBlock(
                location: location, ram: layout.ram,
                accepted: added.filter { layout.region(containing: $0)?.kind.isRAM == true })
        }
        self.init(
            runs: image.sections.filter { !$0.isAugmented }.map { section in
                let content = section.kind == .tdHOB ? (block?.bytes[...] ?? []) : image.bytes[section.rawData]
                return Run(section: section, range: section.memory, content: content, isMeasured: section.isMeasured)
            },
            augmented: image.sections.filter(\.isAugmented).map(\.memory),
            handOffBlock: block)
    }

    private static func check(_ section: TDVFSection, in layout: GuestMemoryLayout) throws(FirmwareError) {
        let mayBeFirmware = section.kind == .bfv || section.kind == .cfv
        guard let region = layout.region(containing: section.memory), region.kind.isRAM || mayBeFirmware else {
            let places = layout.regions.filter { $0.kind.isRAM || mayBeFirmware }
            throw FirmwareError(
                .outsideMemory, field: "\(section.label) memory", value: "\(section.memory)",
                limit: "it must lie in one of " + places.map { "\($0.kind) \($0.range)" }.joined(separator: ", "))
        }
        guard section.kind != .payload || !section.rawData.isEmpty else {
            throw FirmwareError(
                .unsupported, field: "\(section.label) raw_size", value: "0",
                limit: "payloads outside the image are not supported")
        }
    }
}
