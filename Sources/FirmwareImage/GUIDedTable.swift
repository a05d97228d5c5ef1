/// The table of GUIDed structures that OVMF keeps below its reset vector.
///
/// It is read backwards. It ends 32 bytes before the image does; from there, downwards: the footer's GUID (16 bytes),
/// the length of the whole table (2 bytes), then entries, each again with its GUID on top, its length (2 bytes, data,
/// length and GUID together) below, and its data below that. Source: edk2, OvmfPkg/ResetVector.
struct GUIDedTable {
    static let footer = GUID("96b582de-1fb2-45f7-baea-a366c55a082d")
    /// Bytes between the table's end and the image's end.
    static let distanceFromEnd = 0x20
    /// GUID and length, the least that an entry can be.
    static let headerSize = GUID.size + 2

    struct Entry: Equatable {
        /// The GUID as stored.
        var guid: [UInt8]
        /// Where the entry's data lies in the image.
        var data: Range<Int>
    }

    /// The entry next to the image's end comes first.
    let entries: [Entry]

    /// Reads the table; nil when the image has none (no footer GUID where it belongs).
    init?(image: [UInt8]) throws(FirmwareError) {
        let end = image.count - Self.distanceFromEnd
        let footerStart = end - GUID.size
        guard footerStart >= 2, Self.footer.matches(image[footerStart..<end]) else { return nil }

        let total = Int(image.littleEndian(UInt16.self, at: footerStart - 2)!)
        guard total >= Self.headerSize, total <= end else {
            throw FirmwareError(
                .guidedTable, field: "GUIDed table length", value: "\(total) B",
                limit: "it must be \(Self.headerSize)…\(end) B")
        }

        let tableStart = end - total
        var position = footerStart - 2
        var found: [Entry] = []
        while position > tableStart {
            let room = position - tableStart
            guard room >= Self.headerSize else {
                throw FirmwareError(
                    .guidedTable, field: "GUIDed table", value: "\(room) B left over at \(hex(tableStart))",
                    limit: "an entry needs at least \(Self.headerSize) B")
            }
            let guid = Array(image[position - GUID.size..<position])
            let length = Int(image.littleEndian(UInt16.self, at: position - Self.headerSize)!)
            // An entry shorter than its own header would never move the reader on.
            guard length >= Self.headerSize, length <= room else {
                throw FirmwareError(
                    .guidedTable, field: "length of the GUIDed table's entry at \(hex(position))",
                    value: "\(length) B", limit: "it must be \(Self.headerSize)…\(room) B")
            }
            found.append(Entry(guid: guid, data: position - length..<position - Self.headerSize))
            position -= length
        }
        entries = found
    }

    /// The data of the first entry of that kind, seen from the image's end.
    func data(of guid: GUID) -> Range<Int>? {
        entries.first { $0.guid == guid.bytes }?.data
    }
}
