/// A 64-bit completion status of the TDX module, kept raw so that unknown codes survive.
///
/// Bits 63:32 name the condition, bits 31:0 carry an operand id or details.
/// Source: reference/tdx-module.md §3.
@frozen
public struct TDXStatus: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt64

    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// Reads what `hexadecimal` has written; nil for anything else.
    public init?(hexadecimal text: String) {
        guard text.utf8.count == 18, text.hasPrefix("0x"), let value = UInt64(text.dropFirst(2), radix: 16) else {
            return nil
        }
        self.init(value)
        // "+" and "-" are no digits.
        guard hexadecimal == text.lowercased() else { return nil }
    }

    /// `0x` and 16 digits.
    public var hexadecimal: String {
        let digits = String(rawValue, radix: 16)
        return "0x" + String(repeating: "0", count: 16 - digits.count) + digits
    }
}
