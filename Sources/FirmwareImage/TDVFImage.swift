public import MemoryUnits

/// A TDVF firmware image: the bytes of a flash image with the metadata by which a host loads them into a TD.
/// Debian's `/usr/share/ovmf/OVMF.fd` is one.
///
/// The metadata is found through the entry of the GUIDed table at the image's end; an image without such an entry may
/// instead hold the metadata's offset in the four bytes 32 before its end, as td-shim does.
public struct TDVFImage: Sendable {
    /// How the metadata was found.
    public enum Locator: String, Hashable, Sendable {
        case guidedTable
        case legacyPointer
    }

    /// The largest image that is accepted.
    public static var maximumSize: ByteCount { .mebibytes(64) }
    /// The most sections that are accepted; images in use have fewer than a dozen.
    public static var maximumSectionCount: Int { 64 }
    /// Where the first vCPU of a TD starts.
    public static var resetVector: GuestPhysicalAddress { GuestPhysicalAddress(0xffff_fff0) }

    /// The whole image.
    public let bytes: [UInt8]
    public let locator: Locator
    /// Where the metadata begins in the image.
    public let metadataOffset: Int
    /// In the order of the metadata, which is the order of loading and of measurement. Their memory does not overlap.
    public let sections: [TDVFSection]

    public var size: ByteCount { ByteCount(UInt64(bytes.count)) }
    /// The section that the hand-off block goes to.
    public var handOffBlockSection: TDVFSection? { sections.first { $0.kind == .tdHOB } }

    /// Reads and checks the whole metadata. It takes time in proportion to the number of sections squared, not to the
    /// size of the image, and allocates no memory in proportion to any number found in the image.
    public init(_ bytes: [UInt8]) throws(FirmwareError) {
        guard !bytes.isEmpty, bytes.count % Int(pageSize) == 0, bytes.count <= Int(Self.maximumSize.rawValue) else {
            throw FirmwareError(
                .imageSize, field: "image size", value: "\(bytes.count) B",
                limit: "it must be a multiple of 4 KiB, at least 4 KiB and at most \(Self.maximumSize)")
        }
        let (locator, offset) = try Self.findMetadata(in: bytes)
        sections = try Self.readSections(of: bytes, metadataOffset: offset)
        self.bytes = bytes
        self.locator = locator
        metadataOffset = offset
        try Self.check(sections)
    }
}

extension TDVFImage {
    private static let metadataEntry = GUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
    private static let signature = Array("TDVF".utf8)
    /// signature, length, version and number of sections, four bytes each.
    private static let headerSize = 16

    private static func findMetadata(in image: [UInt8]) throws(FirmwareError) -> (Locator, Int) {
        let pointerOffset = image.count - GUIDedTable.distanceFromEnd
        if let data = try GUIDedTable(image: image)?.data(of: metadataEntry) {
            guard data.count == 4, let distance = image[data].littleEndian(UInt32.self, at: 0) else {
                throw FirmwareError(
                    .guidedTable, field: "TDX metadata entry of the GUIDed table", value: "\(data.count) B of data",
                    limit: "it must be 4 B")
            }
            guard distance >= headerSize, distance <= image.count else {
                throw FirmwareError(
                    .metadataLength, field: "distance of the TDX metadata from the image's end", value: hex(distance),
                    limit: "it must be \(hex(headerSize))…\(hex(image.count))")
            }
            let offset = image.count - Int(distance)
            guard image[offset..<offset + 4].elementsEqual(signature) else {
                throw FirmwareError(
                    .signature, field: "TDX metadata signature at \(hex(offset))",
                    value: image[offset..<offset + 4].map { hex($0) }.joined(separator: " "), limit: "it must be TDVF")
            }
            return (.guidedTable, offset)
        }
        // The legacy pointer has no signature of its own: it is only believed when it leads to one.
        guard let pointer = image.littleEndian(UInt32.self, at: pointerOffset), pointer <= image.count - headerSize,
            image[Int(pointer)..<Int(pointer) + 4].elementsEqual(signature)
        else {
            throw FirmwareError(
                .metadataNotFound, field: "TDX metadata", value: "absent",
                limit:
                    "a TDVF image has a GUIDed table with entry \(metadataEntry.text), or a pointer 32 B before its end"
            )
        }
        return (.legacyPointer, Int(pointer))
    }

    private static func readSections(
        of image: [UInt8], metadataOffset offset: Int
    ) throws(FirmwareError) -> [TDVFSection] {
        // The finder made sure that the header lies inside the image.
        let length = image.littleEndian(UInt32.self, at: offset + 4)!
        let version = image.littleEndian(UInt32.self, at: offset + 8)!
        let count = image.littleEndian(UInt32.self, at: offset + 12)!
        guard version == 1 else {
            throw FirmwareError(.version, field: "TDX metadata version", value: "\(version)", limit: "it must be 1")
        }
        guard (1...UInt32(maximumSectionCount)).contains(count) else {
            throw FirmwareError(
                .sectionCount, field: "TDX metadata number of sections", value: "\(count)",
                limit: "it must be 1…\(maximumSectionCount)")
        }
        let needed = headerSize + Int(count) * TDVFSection.encodedSize
        guard Int(length) == needed else {
            throw FirmwareError(
                .metadataLength, field: "TDX metadata length", value: "\(length) B",
                limit: "\(count) sections take \(needed) B")
        }
        guard needed <= image.count - offset else {
            throw FirmwareError(
                .metadataLength, field: "TDX metadata", value: "\(hex(offset)) + \(needed) B",
                limit: "the image ends at \(hex(image.count))")
        }
        var sections: [TDVFSection] = []
        for index in 0..<Int(count) {
            let position = offset + headerSize + index * TDVFSection.encodedSize
            sections.append(try TDVFSection(index: index, encodedAt: position, in: image))
        }
        return sections
    }

    private static func check(_ sections: [TDVFSection]) throws(FirmwareError) {
        for (position, section) in sections.enumerated() {
            for other in sections[..<position] where other.memory.overlaps(section.memory) {
                throw FirmwareError(
                    .overlap, field: "\(section.label) memory", value: "\(section.memory)",
                    limit: "\(other.label) has \(other.memory)")
            }
        }
        guard sections.contains(where: { $0.kind == .bfv && $0.memory.contains(resetVector) }) else {
            throw FirmwareError(
                .missingBFV, field: "TDX metadata", value: "without a BFV section at the reset vector",
                limit: "one BFV must hold \(resetVector)")
        }
        for kind in [TDVFSection.Kind.tdHOB, .payload, .payloadParam] {
            let count = sections.count { $0.kind == kind }
            guard count <= 1 else {
                throw FirmwareError(
                    .duplicateSection, field: "number of \(kind.name) sections", value: "\(count)",
                    limit: "at most 1 is allowed")
            }
        }
    }
}
