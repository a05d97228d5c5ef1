/// A number of bytes.
@frozen
public struct ByteCount: RawRepresentable, Hashable, Comparable, Sendable {
    public var rawValue: UInt64

    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ bytes: UInt64) { rawValue = bytes }

    @inlinable public static var zero: Self { Self(0) }
    @inlinable public static func kibibytes(_ n: UInt64) -> Self { Self(n << 10) }
    @inlinable public static func mebibytes(_ n: UInt64) -> Self { Self(n << 20) }
    @inlinable public static func gibibytes(_ n: UInt64) -> Self { Self(n << 30) }

    @inlinable public var isPageAligned: Bool { rawValue % pageSize == 0 }
    /// Whole pages in this many bytes; a partial page does not count.
    @inlinable public var pages: PageCount { PageCount(rawValue / pageSize) }

    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    @inlinable public static func + (a: Self, b: Self) -> Self { Self(a.rawValue + b.rawValue) }
    @inlinable public static func - (a: Self, b: Self) -> Self { Self(a.rawValue - b.rawValue) }
    @inlinable public static func += (a: inout Self, b: Self) { a.rawValue += b.rawValue }
    @inlinable public static func -= (a: inout Self, b: Self) { a.rawValue -= b.rawValue }
}

/// A number of 4 KiB pages.
@frozen
public struct PageCount: RawRepresentable, Hashable, Comparable, Sendable {
    public var rawValue: UInt64

    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ pages: UInt64) { rawValue = pages }

    @inlinable public static var zero: Self { Self(0) }
    @inlinable public var bytes: ByteCount { ByteCount(rawValue * pageSize) }

    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    @inlinable public static func + (a: Self, b: Self) -> Self { Self(a.rawValue + b.rawValue) }
    @inlinable public static func - (a: Self, b: Self) -> Self { Self(a.rawValue - b.rawValue) }
    @inlinable public static func += (a: inout Self, b: Self) { a.rawValue += b.rawValue }
}
