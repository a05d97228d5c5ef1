internal import MemoryUnits

extension LoadPlan {
    /// Bytes that a page adds to what MRTD is the SHA-384 of: 128 for its addition, and for each of its 16 chunks of
    /// 256 bytes, where it is measured, 128 and the chunk.
    private static let addRecordSize = 128
    private static let extendRecordSize = 128
    private static let chunkSize = 256

    /// Feeds `update`, page by page, with exactly the bytes that MRTD is the SHA-384 of when Linux carries out the
    /// plan: for each page a MEM.PAGE.ADD record, then for a measured page 16 times an MR.EXTEND record and 256 bytes
    /// of the page. Nothing else that a host does enters MRTD. The buffer is valid during the call only.
    /// - Complexity: O(added pages); one page is held at a time.
    public func replayMeasurement(_ update: (UnsafeRawBufferPointer) -> Void) {
        let pageBytes = Int(pageSize)
        var page = [UInt8](repeating: 0, count: pageBytes)
        var records: [UInt8] = []
        for run in runs {
            for index in 0..<run.range.size.pages.rawValue {
                let address = run.range.start.rawValue + index * pageSize
                records.removeAll(keepingCapacity: true)
                Self.appendRecord("MEM.PAGE.ADD", address, size: Self.addRecordSize, to: &records)
                if run.isMeasured {
                    page.withUnsafeMutableBytes { run.copyBytes(from: ByteCount(index * pageSize), into: $0) }
                    for chunk in stride(from: 0, to: pageBytes, by: Self.chunkSize) {
                        Self.appendRecord(
                            "MR.EXTEND", address + UInt64(chunk), size: Self.extendRecordSize, to: &records)
                        records.append(contentsOf: page[chunk..<chunk + Self.chunkSize])
                    }
                }
                records.withUnsafeBytes(update)
            }
        }
    }

    /// A record: the name at 0, the address at 16, zeroes elsewhere.
    private static func appendRecord(_ name: StaticString, _ address: UInt64, size: Int, to records: inout [UInt8]) {
        let end = records.count + size
        name.withUTF8Buffer { records.append(contentsOf: $0) }
        records.append(contentsOf: repeatElement(0, count: 16 - name.utf8CodeUnitCount))
        records.append(littleEndian: address)
        records.append(contentsOf: repeatElement(0, count: end - records.count))
    }
}
