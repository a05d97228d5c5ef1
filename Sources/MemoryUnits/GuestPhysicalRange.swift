/// A half-open range of guest-physical bytes, `start ..< start + size`. It never wraps.
@frozen
public struct GuestPhysicalRange: Hashable, Sendable {
    public let start: GuestPhysicalAddress
    public let size: ByteCount

    /// - Precondition: `start + size` does not exceed 2^64 − 1; use `init(validating:size:)` for what a client sent.
    @inlinable
    public init(start: GuestPhysicalAddress, size: ByteCount) {
        precondition(start.rawValue <= UInt64.max - size.rawValue, "a guest-physical range wraps")
        self.start = start
        self.size = size
    }

    /// Nil when the range would wrap.
    @inlinable
    public init?(validating start: GuestPhysicalAddress, size: ByteCount) {
        guard start.rawValue <= UInt64.max - size.rawValue else { return nil }
        self.start = start
        self.size = size
    }

    /// The first address after the range.
    @inlinable public var end: GuestPhysicalAddress { start + size }
    @inlinable public var isEmpty: Bool { size == .zero }
    @inlinable public var isPageAligned: Bool { start.isPageAligned && size.isPageAligned }

    @inlinable
    public func contains(_ address: GuestPhysicalAddress) -> Bool { start <= address && address < end }

    @inlinable
    public func contains(_ other: Self) -> Bool { start <= other.start && other.end <= end }

    @inlinable
    public func overlaps(_ other: Self) -> Bool { start < other.end && other.start < end && !isEmpty && !other.isEmpty }

    /// The part that both ranges share; nil when there is none.
    @inlinable
    public func intersection(_ other: Self) -> Self? {
        let first = max(start, other.start)
        let last = min(end, other.end)
        return first < last ? Self(start: first, size: last - first) : nil
    }
}
