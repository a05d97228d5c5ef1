internal import ControlInterface
internal import MemoryUnits

/// A range that a client wants converted, after every check that needs no look at the TD.
struct ConvertOrder: Hashable, Sendable {
    let name: DomainName
    let range: GuestPhysicalRange

    /// - Throws: `ControlError.invalidField` for the first field that is out of its limits.
    init(name: String, gpa: Int64, bytes: Int64) throws(ControlError) {
        self.name = try DomainName(validating: name)
        guard gpa >= 0 else { throw .invalidField(field: "gpa", value: String(gpa), limit: "0 or greater") }
        let start = GuestPhysicalAddress(UInt64(gpa))
        guard start.isPageAligned else {
            throw .invalidField(field: "gpa", value: "\(start)", limit: "a multiple of \(pageSize)")
        }
        guard bytes > 0 else { throw .invalidField(field: "bytes", value: String(bytes), limit: "greater than 0") }
        let size = ByteCount(UInt64(bytes))
        guard size.isPageAligned else {
            throw .invalidField(field: "bytes", value: String(bytes), limit: "a multiple of \(pageSize)")
        }
        let end = CreateOrder.maximumMemory
        guard let range = GuestPhysicalRange(validating: start, size: size), range.end.rawValue <= end.rawValue else {
            throw .invalidField(
                field: "bytes", value: String(bytes),
                limit: "gpa + bytes at most 0x\(String(end.rawValue, radix: 16))")
        }
        self.range = range
    }
}
