public import MemoryUnits

/// The line that the kernel's side sends when it has made its mailboxes, before the first SEAMCALL:
/// "seamlab VERSION ADDRESS PROCESSORS MKTME TDX BITS". ADDRESS is hexadecimal, the rest decimal.
public struct Announcement: Hashable, Sendable {
    /// The first of the pages, one for each processor.
    public var mailboxes: HostPhysicalAddress
    /// Processors that the kernel may have, 1 … 256: a doorbell is one byte.
    public var processors: Int
    /// Key ids of MKTME and of TDX.
    public var mktmeKeys: UInt16
    public var tdxKeys: UInt16
    /// Bits of a physical address without the key id's.
    public var addressBits: Int

    /// The versions of line and mailboxes that this server speaks. A kernel of version 1 gives no orders.
    public static let versions = 1...2
    /// Longest line, without its end.
    public static let maximumLength = 200

    /// - Throws: what is wrong with the line.
    public init(parsing line: String) throws(ServerError) {
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        guard words.first == "seamlab" else {
            throw ServerError("the kernel does not announce itself: “\(line.prefix(40))” does not begin with “seamlab”")
        }
        guard words.count > 1, let version = Int(words[1]), Self.versions.contains(version) else {
            throw ServerError(
                "the kernel speaks version “\(words.dropFirst().first ?? "")” of the mailbox, this program "
                    + "\(Self.versions.lowerBound) to \(Self.versions.upperBound): build the two from the same source")
        }
        guard words.count == 7 else {
            throw ServerError("the announcement has \(words.count) words, not 7: “\(line)”")
        }
        func number(_ index: Int, _ name: String, radix: Int = 10, _ range: ClosedRange<UInt64>) throws(ServerError)
            -> UInt64
        {
            guard let value = UInt64(words[index], radix: radix), range.contains(value) else {
                throw ServerError(
                    "\(name) of the announcement is “\(words[index])”, not \(range.lowerBound) to \(range.upperBound)")
            }
            return value
        }
        mailboxes = HostPhysicalAddress(try number(2, "the mailboxes' address", radix: 16, 4096...(1 << 52) - 4096))
        guard mailboxes.rawValue % pageSize == 0 else {
            throw ServerError("the mailboxes' address \(words[2]) of the announcement is not page aligned")
        }
        processors = Int(try number(3, "the number of processors", 1...256))
        mktmeKeys = UInt16(try number(4, "the number of MKTME key ids", 0...32_000))
        tdxKeys = UInt16(try number(5, "the number of TDX key ids", 1...32_000))
        addressBits = Int(try number(6, "the number of address bits", 37...51))
    }
}
