internal import MemoryUnits

extension TDVFSection {
    /// Bytes of a section in the metadata.
    static let encodedSize = 32

    /// Reads and checks one section. Fields: data_offset u32, raw_size u32, memory_address u64, memory_data_size u64,
    /// type u32, attributes u32.
    init(index: Int, encodedAt offset: Int, in image: [UInt8]) throws(FirmwareError) {
        guard let dataOffset = image.littleEndian(UInt32.self, at: offset),
            let rawSize = image.littleEndian(UInt32.self, at: offset + 4),
            let address = image.littleEndian(UInt64.self, at: offset + 8),
            let size = image.littleEndian(UInt64.self, at: offset + 16),
            let type = image.littleEndian(UInt32.self, at: offset + 24),
            let bits = image.littleEndian(UInt32.self, at: offset + 28)
        else {
            throw FirmwareError(
                .metadataLength, field: "section \(index)", value: "at \(hex(offset))",
                limit: "the image ends at \(hex(image.count))")
        }
        guard let kind = Kind(rawValue: type) else {
            throw FirmwareError(
                .sectionType, field: "section \(index) type", value: "\(type)",
                limit: "known are 0 (BFV) to 6 (PayloadParam)")
        }
        let label = "section \(index) (\(kind.name))"

        guard UInt64(dataOffset) + UInt64(rawSize) <= UInt64(image.count) else {
            throw FirmwareError(
                .sectionOutsideImage, field: "\(label) data",
                value: "\(hex(dataOffset)) + \(hex(rawSize))", limit: "the image ends at \(hex(image.count))")
        }
        guard address % pageSize == 0 else {
            throw FirmwareError(
                .misaligned, field: "\(label) memory_address", value: hex(address),
                limit: "it must be a multiple of 4 KiB")
        }
        guard size % pageSize == 0 else {
            throw FirmwareError(
                .misaligned, field: "\(label) memory_data_size", value: hex(size),
                limit: "it must be a multiple of 4 KiB")
        }
        guard size > 0, size >= UInt64(rawSize) else {
            throw FirmwareError(
                .sectionSize, field: "\(label) memory_data_size", value: hex(size),
                limit: "it must not be zero and hold raw_size \(hex(rawSize))")
        }
        guard let memory = GuestPhysicalRange(validating: GuestPhysicalAddress(address), size: ByteCount(size)) else {
            throw FirmwareError(
                .wraps, field: "\(label) memory", value: "\(hex(address)) + \(hex(size))",
                limit: "it must end below 2^64")
        }
        self.init(
            index: index, kind: kind, attributes: Attributes(rawValue: bits),
            rawData: Int(dataOffset)..<Int(dataOffset) + Int(rawSize), memory: memory)
        try checkContents()
        try checkAttributes()
    }

    private func checkContents() throws(FirmwareError) {
        switch kind {
        case .bfv, .cfv:
            guard rawData.isEmpty else { return }
            throw FirmwareError(
                .sectionSize, field: "\(label) raw_size", value: "0", limit: "the image must carry its contents")
        case .tdHOB, .tempMem, .permMem:
            guard !rawData.isEmpty else { return }
            throw FirmwareError(
                .sectionSize, field: "\(label) raw_size", value: hex(rawData.count),
                limit: "it must be 0: the host fills it")
        case .payload, .payloadParam:
            return
        }
    }

    private func checkAttributes() throws(FirmwareError) {
        guard attributes.isSubset(of: .known) else {
            throw FirmwareError(
                .sectionAttributes, field: "\(label) attributes", value: hex(attributes.rawValue),
                limit: "only bits 0 (MR.EXTEND) and 1 (PAGE.AUG) are defined")
        }
        // The contents of an augmented page are the guest's: nothing can be loaded into it or measured.
        guard !isAugmented || (!isMeasured && rawData.isEmpty && kind != .tdHOB) else {
            throw FirmwareError(
                .sectionAttributes, field: "\(label) attributes", value: hex(attributes.rawValue),
                limit: "PAGE.AUG excludes MR.EXTEND and contents")
        }
    }
}
