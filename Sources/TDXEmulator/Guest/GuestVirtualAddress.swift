public import MemoryUnits

/// A byte address in the address space of a guest's kernel.
public struct GuestVirtualAddress: RawRepresentable, Hashable, Comparable, Sendable {
    /// The address in bytes.
    public var rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public init(_ bytes: UInt64) { rawValue = bytes }

    /// The number of the 4 KiB page that the address lies in.
    var page: UInt64 { rawValue / pageSize }

    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public static func + (a: Self, b: ByteCount) -> Self { Self(a.rawValue + b.rawValue) }
}

/// A half-open range of whole pages in the address space of a guest's kernel.
public struct GuestVirtualRange: Hashable, Sendable {
    public let start: GuestVirtualAddress
    public let size: ByteCount

    /// - Precondition: start and size are multiples of 4,096 bytes, and the range does not wrap.
    public init(start: GuestVirtualAddress, size: ByteCount) {
        precondition(
            start.rawValue % pageSize == 0 && size.rawValue % pageSize == 0
                && start.rawValue <= UInt64.max - size.rawValue, "a virtual range is of whole pages")
        self.start = start
        self.size = size
    }

    /// The numbers of its pages.
    var pages: Range<UInt64> { start.page..<start.page + size.rawValue / pageSize }
}

/// An entry of a guest's page tables: x86's own layout as far as conversions need it.
public struct GuestPageTableEntry: Hashable, Sendable {
    /// Bit 0 is PRESENT, bits 50:12 the page. Bit 51 stands for the TD's shared bit, 47 or 51.
    var rawValue: UInt64

    init(rawValue: UInt64) { self.rawValue = rawValue }

    init(_ frame: GuestFrameNumber, isPresent: Bool = true, isShared: Bool = false) {
        rawValue = frame.rawValue * pageSize | (isPresent ? 1 : 0) | (isShared ? 1 << 51 : 0)
    }

    public var frame: GuestFrameNumber { GuestFrameNumber((rawValue & (1 << 51 - 1)) / pageSize) }

    public internal(set) var isPresent: Bool {
        get { rawValue & 1 != 0 }
        set { rawValue = newValue ? rawValue | 1 : rawValue & ~1 }
    }

    /// The encryption attribute: whether an access goes to the shared side.
    public internal(set) var isShared: Bool {
        get { rawValue & 1 << 51 != 0 }
        set { rawValue = newValue ? rawValue | 1 << 51 : rawValue & ~(1 << 51) }
    }
}
