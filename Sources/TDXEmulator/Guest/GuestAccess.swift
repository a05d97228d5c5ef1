public import MemoryUnits

/// What a guest's step meets instead of its result.
public enum GuestFault: Error, Hashable, Sendable {
    /// The VM is being destroyed.
    case stopped
    /// #VE: the page at this address is pending, so the guest must accept it first.
    case virtualizationException(GuestPhysicalAddress)
    /// #PF: the guest's page tables have nothing present at this address.
    case pageFault(GuestVirtualAddress)
}

/// An access of a guest to shared memory, inside one page. `address` is without the shared bit.
struct SharedAccess {
    var address: GuestPhysicalAddress
    var count: Int
    /// Nil for a read.
    var writing: [UInt8]?
    /// Whether the CPU would still make this access; asked with its guest lock held, right before the access is performed.
    var isCurrent: () -> Bool = { true }
}

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
