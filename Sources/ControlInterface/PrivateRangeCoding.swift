/// Ranges of pages that are private or in transition, as few bytes: two or three where every other page is private, where
/// JSON takes seventy.
///
/// Each range is two numbers in base 128, the lowest digit first, every digit but the last with the bit 0x80 (LEB128): the
/// pages between the end of the former range and this one, and 4 × pages + state. State 1 is private, 2 converting to
/// private, 3 converting to shared. Ranges ascend; a page is 4 KiB.
public struct PrivateRangeEncoder: Sendable {
    static let pageSize: UInt64 = 4096
    /// What a range may reach to: its end in bytes must be a number of JSON readers.
    static let endOfPages: UInt64 = 1 << 51

    public private(set) var bytes: [UInt8] = []
    private var end: UInt64 = 0
    /// The last range, which the next one may continue.
    private var open: (start: UInt64, end: UInt64, state: UInt64)?

    public init() {}

    /// Adds a range after those before. Shared ones are left out; one that continues the last is merged with it.
    /// - Parameters:
    ///   - start: the number of its first page.
    ///   - pages: at least 1.
    public mutating func add(start: UInt64, pages: UInt64, _ attribute: PageAttribute) {
        precondition(pages > 0 && start >= (open?.end ?? end), "ranges ascend")
        guard attribute != .shared else { return }
        let state: UInt64 =
            switch attribute {
            case .shared: 0
            case .private: 1
            case .convertingToPrivate: 2
            case .convertingToShared: 3
            }
        if let last = open, last.end == start, last.state == state {
            open = (last.start, start + pages, state)
        } else {
            flush()
            open = (start, start + pages, state)
        }
    }

    /// The bytes of all ranges that are complete, which are forgotten; all of them with `isLast`.
    public mutating func take(isLast: Bool = false) -> [UInt8] {
        if isLast { flush() }
        defer { bytes = [] }
        return bytes
    }

    private mutating func flush() {
        guard let range = open else { return }
        put(range.start - end)
        put((range.end - range.start) << 2 | range.state)
        end = range.end
        open = nil
    }

    private mutating func put(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
}

/// The bytes are no ranges.
public struct PrivateRangeFlaw: Error, Hashable, CustomStringConvertible {
    /// What is wrong, in words.
    public var description: String
    public init(description: String) { self.description = description }
}

/// Reads what `PrivateRangeEncoder` has written, from bytes that come in pieces. Takes nothing on trust.
public struct PrivateRangeDecoder: Sendable {
    private var end: UInt64 = 0

    public init() {}

    /// The range that begins at `position`, which moves after it; nil, nothing moved, where the bytes end within it.
    public mutating func next(_ bytes: [UInt8], _ position: inout Int) throws(PrivateRangeFlaw) -> MemoryRun? {
        var here = position
        guard let gap = try Self.number(bytes, &here), let content = try Self.number(bytes, &here) else { return nil }
        let pages = content >> 2
        let limit = PrivateRangeEncoder.endOfPages
        guard pages > 0, gap <= limit, pages <= limit, end + gap + pages <= limit else {
            throw PrivateRangeFlaw(description: "\(pages) pages, \(gap) pages after page \(end), are not a range")
        }
        let attribute: PageAttribute
        switch content & 3 {
        case 1: attribute = .private
        case 2: attribute = .convertingToPrivate
        case 3: attribute = .convertingToShared
        default: throw PrivateRangeFlaw(description: "a shared range at page \(end + gap)")
        }
        let start = end + gap
        end = start + pages
        position = here
        return MemoryRun(
            gpa: start * PrivateRangeEncoder.pageSize, bytes: pages * PrivateRangeEncoder.pageSize,
            attribute: attribute)
    }

    private static func number(_ bytes: [UInt8], _ position: inout Int) throws(PrivateRangeFlaw) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < bytes.count {
            let digit = bytes[position]
            position += 1
            // Nine digits are 63 bits.
            guard shift < 63 else { throw PrivateRangeFlaw(description: "a number of more than 63 bits") }
            value |= UInt64(digit & 0x7f) << shift
            if digit & 0x80 == 0 { return value }
            shift += 7
        }
        return nil
    }
}
