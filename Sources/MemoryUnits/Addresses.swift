/// The size of the pages that KVM, guest_memfd and the TDX module account in: 4,096 bytes.
public let pageSize: UInt64 = 4096

/// A byte address in a guest's physical address space, without the TDX shared bit.
@frozen
public struct GuestPhysicalAddress: RawRepresentable, Hashable, Comparable, Sendable {
    /// The address in bytes.
    public var rawValue: UInt64

    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ bytes: UInt64) { rawValue = bytes }

    @inlinable public var isPageAligned: Bool { rawValue % pageSize == 0 }
    /// The page that the address lies in.
    @inlinable public var frame: GuestFrameNumber { GuestFrameNumber(rawValue / pageSize) }

    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    @inlinable public static func + (a: Self, b: ByteCount) -> Self { Self(a.rawValue + b.rawValue) }
    @inlinable public static func - (a: Self, b: Self) -> ByteCount { ByteCount(a.rawValue - b.rawValue) }
}

/// The number of a 4 KiB page in a guest's physical address space.
@frozen
public struct GuestFrameNumber: RawRepresentable, Hashable, Comparable, Sendable {
    public var rawValue: UInt64

    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ number: UInt64) { rawValue = number }

    /// The first byte of the page.
    @inlinable public var address: GuestPhysicalAddress { GuestPhysicalAddress(rawValue * pageSize) }

    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    @inlinable public static func + (a: Self, b: PageCount) -> Self { Self(a.rawValue + b.rawValue) }
    @inlinable public static func - (a: Self, b: Self) -> PageCount { PageCount(a.rawValue - b.rawValue) }
}

/// A byte address in the host's physical address space, without key-id bits. On an emulated backend it is a number of
/// the software module's own, not an address of the machine.
@frozen
public struct HostPhysicalAddress: RawRepresentable, Hashable, Comparable, Sendable {
    public var rawValue: UInt64

    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ bytes: UInt64) { rawValue = bytes }

    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    @inlinable public static func + (a: Self, b: ByteCount) -> Self { Self(a.rawValue + b.rawValue) }
}

/// A memory-encryption key id (HKID), 0 … 65,535; 0 is the host's own key.
@frozen
public struct KeyID: RawRepresentable, Hashable, Comparable, Sendable {
    public var rawValue: UInt16

    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }
    @inlinable public init(_ number: UInt16) { rawValue = number }

    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}
