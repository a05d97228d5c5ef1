/// A 64-bit completion status of the TDX module, kept raw so that unknown codes survive.
///
/// Bits 63:32 name the condition, bits 31:0 carry an operand id or details.
/// Source: reference/tdx-module.md §3.
@frozen
public struct TDXStatus: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt64

    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
}
