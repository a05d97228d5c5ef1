/// Why a text is not a valid size or address.
public enum UnitParsingError: Error, Hashable, Sendable {
    case empty
    case notANumber(String)
    case unknownUnit(String)
    case overflow(String)
    /// A number with a fraction that is not a whole number of bytes.
    case fraction(String)
}

extension UnitParsingError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .empty: "is empty"
        case .notANumber(let text): "“\(text)” is not a number"
        case .unknownUnit(let unit): "“\(unit)” is not a unit; use K, M, G or T (powers of 1,024)"
        case .fraction(let text): "“\(text)” is not a whole number of bytes"
        case .overflow(let text): "“\(text)” does not fit in 64 bits"
        }
    }
}

extension ByteCount {
    /// Reads a size as people write it: `4096`, `0x1000`, `64K`, `512MiB`, `1.5G`, `16 MiB`, `1Gi`, `2TB`. Units are
    /// powers of 1,024, however they are spelt. A fraction has at most nine digits and must give whole bytes.
    public init(parsing text: some StringProtocol) throws(UnitParsingError) {
        rawValue = try parseNumber(text)
    }
}

extension GuestPhysicalAddress {
    /// Reads an address: `0x1000000`, `16777216`, `16M`.
    public init(parsing text: some StringProtocol) throws(UnitParsingError) {
        rawValue = try parseNumber(text)
    }
}

private func parseNumber(_ text: some StringProtocol) throws(UnitParsingError) -> UInt64 {
    guard !text.isEmpty else { throw .empty }
    // The Kelvin sign, for one, has a plain “k” for its lower case.
    guard text.utf8.allSatisfy({ $0 < 0x80 }) else { throw .notANumber(String(text)) }
    let lowered = text.lowercased()
    if lowered.hasPrefix("0x") {
        let digits = lowered.dropFirst(2)
        guard !digits.isEmpty, digits.utf8.allSatisfy(isHexDigit) else { throw .notANumber(String(text)) }
        guard let value = UInt64(digits, radix: 16) else { throw .overflow(String(text)) }
        return value
    }
    let digits = lowered.prefix { $0.isASCII && $0.isNumber }
    guard !digits.isEmpty else { throw .notANumber(String(text)) }
    guard let value = UInt64(digits) else { throw .overflow(String(text)) }
    var rest = lowered.dropFirst(digits.count)
    var decimals = Substring()
    if rest.first == "." {
        decimals = rest.dropFirst().prefix { $0.isASCII && $0.isNumber }
        guard (1...9).contains(decimals.count) else { throw .notANumber(String(text)) }
        rest = rest.dropFirst(decimals.count + 1)
    }
    // One blank may stand before the unit, as in "16 MiB".
    let unit = rest.first == " " && rest.count > 1 ? rest.dropFirst() : rest
    let shift: UInt64
    switch unit {
    case "", "b": shift = 0
    case "k", "ki", "kb", "kib": shift = 10
    case "m", "mi", "mb", "mib": shift = 20
    case "g", "gi", "gb", "gib": shift = 30
    case "t", "ti", "tb", "tib": shift = 40
    default: throw .unknownUnit(String(unit))
    }
    guard value <= UInt64.max >> shift else { throw .overflow(String(text)) }
    guard !decimals.isEmpty else { return value << shift }
    // Below 10^9 times 2^40, which fits.
    var scale: UInt64 = 1
    for _ in decimals { scale *= 10 }
    let product = (UInt64(decimals) ?? 0).multipliedFullWidth(by: 1 << shift)
    guard product.high < scale else { throw .overflow(String(text)) }
    let (part, remainder) = scale.dividingFullWidth(product)
    guard remainder == 0 else { throw .fraction(String(text)) }
    let (sum, overflows) = (value << shift).addingReportingOverflow(part)
    guard !overflows else { throw .overflow(String(text)) }
    return sum
}

private func isHexDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
}
