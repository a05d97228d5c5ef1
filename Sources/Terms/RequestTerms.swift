public import MemoryUnits

// What clients ask for, in the order of the interface.

/// The name of a TD: 1 to 64 of `a`–`z`, `0`–`9`, `.`, `_` and `-`.
public struct TrustDomainName: CheckedTerm {
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue }

    public static let limit = "1 to 64 characters of a-z 0-9 . _ -"
    public static let lengths = 1...64

    public static func violation(of rawValue: String) -> Violation? {
        guard lengths.contains(rawValue.utf8.count), rawValue.utf8.allSatisfy(isAllowed) else {
            return Violation(Refusal.quoting(rawValue), limit: limit)
        }
        return nil
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
        default: false
        }
    }
}

/// The name of a TD that is to be made: it begins with a letter or digit, so that no command line takes it for an
/// option. TDs that have another name from former versions keep it.
public struct NewTrustDomainName: CheckedTerm {
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue }

    public var name: TrustDomainName { TrustDomainName(unchecked: rawValue) }

    public static func violation(of rawValue: String) -> Violation? {
        if let violation = TrustDomainName.violation(of: rawValue) { return violation }
        guard let first = rawValue.utf8.first, !".-_".utf8.contains(first) else {
            return Violation(
                Refusal.quoting(rawValue), limit: TrustDomainName.limit + " that begin with a letter or digit")
        }
        return nil
    }
}

/// What a TD is known by beyond its name, which another one may get later: 32 lower-case hexadecimal digits.
public struct TrustDomainID: CheckedTerm {
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue }

    public static func violation(of rawValue: String) -> Violation? {
        let isDigit: (UInt8) -> Bool = { byte in
            !(UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte) && hexadecimalDigit(byte) != nil
        }
        guard rawValue.utf8.count == 32, rawValue.utf8.allSatisfy(isDigit) else {
            return Violation(Refusal.quoting(rawValue), limit: "32 lower-case hexadecimal digits")
        }
        return nil
    }
}

/// 48 bytes that a TD is measured with: MRCONFIGID, MROWNER or MROWNERCONFIG. On the wire 96 hexadecimal digits of
/// either case.
public struct Digest48: CheckedTerm {
    /// In lower case.
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue.lowercased() }

    public static let byteCount = 48

    public static func violation(of rawValue: String) -> Violation? {
        guard rawValue.utf8.count == 2 * byteCount, rawValue.utf8.allSatisfy({ hexadecimalDigit($0) != nil }) else {
            return Violation(Refusal.quoting(rawValue), limit: "exactly 96 hexadecimal digits (48 bytes)")
        }
        return nil
    }

    public var bytes: [UInt8] {
        let digits = rawValue.utf8.map { hexadecimalDigit($0) ?? 0 }
        return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}

private func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}

/// Bytes of a TD's memory: whole pages up to the private half of a 52-bit address space.
public struct MemorySize: CheckedTerm {
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    /// Guest-physical addresses are 52 bits wide at most, and the topmost one selects the shared side.
    public static let maximum = ByteCount(1 << 51)

    public var bytes: ByteCount { ByteCount(UInt64(clamping: rawValue)) }

    public static func violation(of rawValue: Int64) -> Violation? {
        guard rawValue > 0 else { return Violation(String(rawValue), limit: "greater than 0") }
        guard rawValue % Int64(pageSize) == 0 else {
            return Violation(String(rawValue), limit: "a multiple of \(pageSize)")
        }
        guard UInt64(rawValue) <= maximum.rawValue else {
            return Violation(
                String(rawValue), limit: "at most \(maximum.rawValue), the private half of a 52-bit address space")
        }
        return nil
    }
}

/// How many vCPUs a TD has: at most KVM's own maximum. tdxd and a holder's kernel may allow fewer.
public struct VCPUCount: CheckedNumber {
    public static let range: ClosedRange<Int64> = 1...1024
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var count: Int { Int(rawValue) }
}

/// The absolute path of a TDVF image.
public struct FirmwarePath: CheckedTerm {
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue }

    /// PATH_MAX of Linux, without the terminating zero.
    private static let maximumLength = 4095

    public static func violation(of rawValue: String) -> Violation? {
        guard rawValue.utf8.first == UInt8(ascii: "/") else {
            return Violation(Refusal.quoting(rawValue), limit: "an absolute path")
        }
        guard rawValue.utf8.count <= maximumLength, !rawValue.utf8.contains(0) else {
            return Violation(Refusal.quoting(rawValue), limit: "at most \(maximumLength) bytes without NUL")
        }
        return nil
    }
}

/// How long a creation waits for what the host lacks, in milliseconds: up to 7 days.
public struct CreationWait: CheckedNumber {
    public static let range: ClosedRange<Int64> = 1...7 * 86_400_000
    public static let unitName = " ms"
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var duration: Duration { .milliseconds(rawValue) }
}

/// NUMA nodes of a policy: one or more, each once.
public struct NUMANodes: CheckedTerm {
    /// In ascending order.
    public let rawValue: [Int]
    public init(unchecked rawValue: [Int]) { self.rawValue = rawValue.sorted() }

    /// Numbers that a node may have.
    public static let numbers = 0...63

    public static func violation(of rawValue: [Int]) -> Violation? {
        let limit = "one or more different numbers from 0 to 63"
        guard !rawValue.isEmpty else { return Violation("[]", limit: limit) }
        var seen: Set<Int> = []
        for node in rawValue where !numbers.contains(node) || !seen.insert(node).inserted {
            return Violation(String(node), limit: limit)
        }
        return nil
    }
}

/// The guest-physical address of a page.
public struct PageAddress: CheckedTerm {
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var address: GuestPhysicalAddress { GuestPhysicalAddress(UInt64(clamping: rawValue)) }

    public static func violation(of rawValue: Int64) -> Violation? {
        guard rawValue >= 0 else { return Violation(String(rawValue), limit: "0 or greater") }
        let address = GuestPhysicalAddress(UInt64(rawValue))
        guard address.isPageAligned else { return Violation("\(address)", limit: "a multiple of \(pageSize)") }
        return nil
    }
}

/// Bytes of a range of whole pages.
public struct PageSpan: CheckedTerm {
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var size: ByteCount { ByteCount(UInt64(clamping: rawValue)) }

    public static func violation(of rawValue: Int64) -> Violation? {
        guard rawValue > 0 else { return Violation(String(rawValue), limit: "greater than 0") }
        guard rawValue % Int64(pageSize) == 0 else {
            return Violation(String(rawValue), limit: "a multiple of \(pageSize)")
        }
        return nil
    }
}

extension PageAddress {
    /// The range of that many bytes from here on.
    /// - Throws: `Refusal` of `bytes` for a range that leaves the private half of a guest's address space.
    public func range(_ bytes: PageSpan) throws(Refusal) -> GuestPhysicalRange {
        let end = MemorySize.maximum
        guard let range = GuestPhysicalRange(validating: address, size: bytes.size), range.end.rawValue <= end.rawValue
        else {
            throw Refusal(
                field: "bytes", value: String(bytes.rawValue),
                limit: "gpa + bytes at most 0x\(String(end.rawValue, radix: 16))")
        }
        return range
    }
}

/// The number of a change of a map.
public struct ChangeNumber: CheckedNumber {
    public static let range: ClosedRange<Int64> = 0...Int64.max
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }
}

/// How long a follower of a map waits for a change, in milliseconds.
public struct ChangeWait: CheckedNumber {
    public static let range: ClosedRange<Int64> = 0...60_000
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    /// Where the client gives none.
    public static let standard = Self(unchecked: 10_000)

    public var duration: Duration { .milliseconds(rawValue) }
}

/// How many conversions are listed one by one.
public struct ConversionCount: CheckedNumber {
    public static let range: ClosedRange<Int64> = 0...1000
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    /// Where the client gives none.
    public static let standard = Self(unchecked: 20)

    public var count: Int { Int(rawValue) }
}

/// In which order a TD is ended. The raw values are those on the wire.
public enum StopPolicy: String, CheckedChoice {
    /// Terminate first where the kernel can.
    case auto
    /// Refuse where the kernel does not announce that it can.
    case terminateFirst = "terminate-first"
    /// Never terminate: every private page is removed from the living TD.
    case dynamicRemoval = "dynamic-removal"
    /// As `auto`, but memory comes back only when that is asked for, or at a pace.
    case deferred

    public init(from decoder: any Decoder) throws { try self.init(checkingIn: decoder) }
}

/// What a Stop is answered after. The raw values are those on the wire.
public enum StopWait: String, CheckedChoice {
    /// The end is proven, or as much of it as ever will be.
    case proven
    /// The TD runs no more; its memory follows.
    case stopped

    public init(from decoder: any Decoder) throws { try self.init(checkingIn: decoder) }
}

/// Bytes a second that are given back at most.
public struct ReleaseRate: CheckedNumber {
    public static let range: ClosedRange<Int64> = 1 << 20...1 << 40
    public static let unitName = " bytes a second"
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var bytesPerSecond: UInt64 { UInt64(clamping: rawValue) }
}

/// Bytes in one punch, which cannot be interrupted.
public struct ReleaseChunk: CheckedNumber {
    public static let range: ClosedRange<Int64> = 2 << 20...64 << 20
    public static let unit: Int64 = 2 << 20
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var bytes: ByteCount { ByteCount(UInt64(clamping: rawValue)) }
}

/// When the answer to a Stop or Drain comes at the latest, in milliseconds: 1 s to 7 days.
public struct EndDeadline: CheckedNumber {
    public static let range: ClosedRange<Int64> = 1_000...7 * 86_400_000
    public static let unitName = " ms"
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var duration: Duration { .milliseconds(rawValue) }
}

// What tdxd asks of a holder beside.

/// No backing file is smaller where its TD is larger; in bytes.
public struct ShardMinimum: CheckedNumber {
    public static let range: ClosedRange<Int64> = 2 << 20...1 << 40
    public static let unit: Int64 = 2 << 20
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var bytes: ByteCount { ByteCount(UInt64(clamping: rawValue)) }
}

/// How many backing files are given back at a time.
public struct ReleaseThreads: CheckedNumber {
    public static let range: ClosedRange<Int64> = 1...64
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }

    public var count: Int { Int(rawValue) }
}

/// How many conversions in one window are a storm beyond it.
public struct StormCount: CheckedNumber {
    public static let range: ClosedRange<Int64> = 1...1_000_000_000
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }
}

/// The window of a storm in milliseconds: 100 ms to an hour.
public struct StormWindow: CheckedNumber {
    public static let range: ClosedRange<Int64> = 100...3_600_000
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }
}

/// Which of the pages that are taken from a TD, from 1.
public struct RemovalNumber: CheckedNumber {
    public static let range: ClosedRange<Int64> = 1...Int64.max
    public let rawValue: Int64
    public init(unchecked rawValue: Int64) { self.rawValue = rawValue }
}
