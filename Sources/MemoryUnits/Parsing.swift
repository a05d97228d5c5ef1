/// Why a text is no size or address.
public enum UnitParsingError: Error, Hashable, Sendable {
    case empty
    case notANumber(String)
    case unknownUnit(String)
    case overflow(String)
}

extension UnitParsingError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .empty: "is empty"
        case .notANumber(let text): "“\(text)” is not a whole number"
        case .unknownUnit(let unit): "“\(unit)” is not a unit; use K, M, G or T (powers of 1,024)"
        case .overflow(let text): "“\(text)” does not fit in 64 bits"
        }
    }
}

extension ByteCount {
    /// Reads a size as people write it: `4096`, `0x1000`, `64K`, `512MiB`, `1G`, `2T`. Units are powers of 1,024.
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
    let unit = lowered.dropFirst(digits.count)
    let shift: UInt64
    switch unit {
    case "", "b": shift = 0
    case "k", "kib": shift = 10
    case "m", "mib": shift = 20
    case "g", "gib": shift = 30
    case "t", "tib": shift = 40
    default: throw .unknownUnit(String(unit))
    }
    guard value <= UInt64.max >> shift else { throw .overflow(String(text)) }
    return value << shift
}

private func isHexDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
}
