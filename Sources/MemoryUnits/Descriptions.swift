/// A number with what it counts, such as "1 shard" and "5 shards".
///
/// - Parameter plural: for a noun that takes more than an "s".
public func counted(_ number: Int, _ noun: String, plural: String? = nil) -> String {
    "\(number) \(number == 1 ? noun : plural ?? noun + "s")"
}

extension GuestPhysicalAddress: CustomStringConvertible {
    public var description: String { "0x" + String(rawValue, radix: 16) }
}

extension HostPhysicalAddress: CustomStringConvertible {
    public var description: String { "0x" + String(rawValue, radix: 16) }
}

extension GuestFrameNumber: CustomStringConvertible {
    public var description: String { "gfn 0x" + String(rawValue, radix: 16) }
}

extension GuestPhysicalRange: CustomStringConvertible {
    public var description: String { "\(start)–\(end) (\(size))" }
}

extension KeyID: CustomStringConvertible {
    public var description: String { String(rawValue) }
}

extension PageCount: CustomStringConvertible {
    public var description: String { "\(rawValue) pages" }
}

extension ByteCount: CustomStringConvertible {
    /// The largest binary unit that divides the count, such as "4 MiB"; otherwise plain bytes.
    public var description: String {
        let units: [(shift: UInt64, name: String)] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
        for unit in units where rawValue != 0 && rawValue % (1 << unit.shift) == 0 {
            return "\(rawValue >> unit.shift) \(unit.name)"
        }
        return "\(rawValue) B"
    }
}
