import FirmwareImage
import Testing

/// Small TDVF images, built by hand so that a test can break any field of them.
struct SyntheticImage {
    struct Section {
        var dataOffset: UInt32 = 0
        var rawSize: UInt32 = 0
        var address: UInt64
        var size: UInt64
        var type: UInt32
        var attributes: UInt32 = 0
    }

    /// Whole image in bytes.
    var size = 0x3000
    var sections: [Section] = [
        // The image's last 8 KiB are code, its first 4 KiB variables.
        Section(dataOffset: 0x1000, rawSize: 0x2000, address: 0xffff_e000, size: 0x2000, type: 0, attributes: 1),
        Section(dataOffset: 0, rawSize: 0x1000, address: 0xffff_d000, size: 0x1000, type: 1),
        Section(address: 0x80_9000, size: 0x2000, type: 2),
        Section(address: 0x80_0000, size: 0x3000, type: 3),
    ]
    /// Where the metadata begins.
    var metadataOffset = 0x2000
    var signature = Array("TDVF".utf8)
    /// nil: as the sections need.
    var length: UInt32?
    var version: UInt32 = 1
    var sectionCount: UInt32?
    var hasTable = true
    /// Entries next to the metadata's own, nearest the end first: GUID bytes, claimed length (nil: the right one),
    /// data.
    var otherEntries: [(guid: [UInt8], length: UInt16?, data: [UInt8])] = [
        (Array(repeating: 0xaa, count: 16), nil, [1, 2, 3, 4]), (Array(repeating: 0xbb, count: 16), nil, []),
    ]
    /// nil: as it is.
    var tableLength: UInt16?
    /// Data of the metadata's entry; nil: the distance of the metadata from the end.
    var metadataEntryData: [UInt8]?
    /// The four bytes 32 before the end.
    var legacyPointer: UInt32 = 0

    static let footer: [UInt8] = [
        0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
    ]
    static let metadataEntry: [UInt8] = [
        0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
    ]

    var bytes: [UInt8] {
        var image = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ ($0 >> 8)) }
        put(signature, at: metadataOffset, in: &image)
        put(littleEndian(length ?? UInt32(16 + 32 * sections.count)), at: metadataOffset + 4, in: &image)
        put(littleEndian(version), at: metadataOffset + 8, in: &image)
        put(littleEndian(sectionCount ?? UInt32(sections.count)), at: metadataOffset + 12, in: &image)
        for (index, section) in sections.enumerated() {
            let encoded =
                littleEndian(section.dataOffset) + littleEndian(section.rawSize) + littleEndian(section.address)
                + littleEndian(section.size) + littleEndian(section.type) + littleEndian(section.attributes)
            put(encoded, at: metadataOffset + 16 + 32 * index, in: &image)
        }
        let end = size - 32
        put(littleEndian(legacyPointer), at: end, in: &image)
        put([UInt8](repeating: 0, count: 16), at: end - 16, in: &image)
        guard hasTable else { return image }

        // Backwards from the end: footer GUID, table length, then the entries.
        let own = metadataEntryData ?? littleEndian(UInt32(size - metadataOffset))
        let entries = otherEntries + [(Self.metadataEntry, nil, own)]
        var table: [UInt8] = []
        for entry in entries {
            let claimed = entry.length ?? UInt16(entry.data.count + 18)
            table = entry.data + littleEndian(claimed) + entry.guid + table
        }
        table += littleEndian(tableLength ?? UInt16(table.count + 18)) + Self.footer
        put(table, at: end - table.count, in: &image)
        return image
    }
}

/// A way to break an image, and the reason that it is then refused for.
struct Damage: Sendable, CustomTestStringConvertible {
    var what: String
    var reason: FirmwareError.Reason
    var apply: @Sendable (inout SyntheticImage) -> Void

    init(_ what: String, _ reason: FirmwareError.Reason, _ apply: @escaping @Sendable (inout SyntheticImage) -> Void) {
        self.what = what
        self.reason = reason
        self.apply = apply
    }

    var testDescription: String { what }
}

func littleEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

/// Writes what fits; what would lie outside the image is left out.
private func put(_ bytes: [UInt8], at offset: Int, in image: inout [UInt8]) {
    for (index, byte) in bytes.enumerated() where image.indices.contains(offset + index) {
        image[offset + index] = byte
    }
}
