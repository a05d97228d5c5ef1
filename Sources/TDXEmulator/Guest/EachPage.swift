internal import MemoryUnits

/// Splits bytes at page boundaries: an access never crosses one.
///
/// - Parameters:
///   - address: of the first byte, in either of the guest's address spaces.
///   - body: gets where each part begins, and which of the bytes it is.
func eachPage<Address: RawRepresentable<UInt64>>(
    _ address: Address, _ count: Int, _ body: (Address, Range<Int>) throws(GuestFault) -> Void
) throws(GuestFault) {
    var done = 0
    while done < count {
        let start = address.rawValue + UInt64(done)
        let length = min(count - done, Int(pageSize - start % pageSize))
        // Any number is an address.
        try body(Address(rawValue: start)!, done..<done + length)
        done += length
    }
}
