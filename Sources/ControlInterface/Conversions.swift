/// A distribution of one number, within one per cent; zeroes without values.
public struct ValueDistribution: Codable, Hashable, Sendable {
    public var median: UInt64
    public var percentile90: UInt64
    public var percentile99: UInt64
    public var maximum: UInt64

    public init(median: UInt64, percentile90: UInt64, percentile99: UInt64, maximum: UInt64) {
        self.median = median
        self.percentile90 = percentile90
        self.percentile99 = percentile99
        self.maximum = maximum
    }

    enum CodingKeys: String, CodingKey {
        case median
        case percentile90 = "p90"
        case percentile99 = "p99"
        case maximum
    }
}

/// The conversions to one side since the TD was made.
public struct ConversionDirection: Codable, Hashable, Sendable {
    public var to: MemorySide
    public var count: UInt64
    public var changedBytes: UInt64
    public var discardedBytes: UInt64
    /// Conversions that something refused on the way.
    public var failures: UInt64
    /// Conversions that a Stop or a client ended.
    public var cancelled: UInt64
    /// Requests of the guest that were served together with another.
    public var merged: UInt64
    public var sizeBytes: ValueDistribution
    public var microseconds: ValueDistribution

    public init(
        to: MemorySide, count: UInt64, changedBytes: UInt64, discardedBytes: UInt64, failures: UInt64,
        cancelled: UInt64, merged: UInt64, sizeBytes: ValueDistribution, microseconds: ValueDistribution
    ) {
        self.to = to
        self.count = count
        self.changedBytes = changedBytes
        self.discardedBytes = discardedBytes
        self.failures = failures
        self.cancelled = cancelled
        self.merged = merged
        self.sizeBytes = sizeBytes
        self.microseconds = microseconds
    }

    enum CodingKeys: String, CodingKey {
        case to, count
        case changedBytes = "changed_bytes"
        case discardedBytes = "discarded_bytes"
        case failures, cancelled, merged
        case sizeBytes = "size_bytes"
        case microseconds
    }
}

/// A block of guest memory that is converted often.
public struct ConversionHotBlock: Codable, Hashable, Sendable {
    public var gpa: UInt64
    public var bytes: UInt64
    /// How many conversions began in it.
    public var conversions: UInt64

    public init(gpa: UInt64, bytes: UInt64, conversions: UInt64) {
        self.gpa = gpa
        self.bytes = bytes
        self.conversions = conversions
    }
}

/// More conversions than this in one window are a storm.
public struct ConversionStormRule: Codable, Hashable, Sendable {
    public static let conversionCounts: ClosedRange<Int> = 1...1_000_000_000
    public static let windows: ClosedRange<Int64> = 100...3_600_000

    public var conversions: Int
    public var windowMilliseconds: Int64

    public init(conversions: Int, windowMilliseconds: Int64) {
        self.conversions = conversions
        self.windowMilliseconds = windowMilliseconds
    }

    enum CodingKeys: String, CodingKey {
        case conversions
        case windowMilliseconds = "window_ms"
    }
}

/// How it stands with storms.
public struct ConversionStorm: Codable, Hashable, Sendable {
    /// The rule, as its window.
    public var conversions: Int
    public var windowMilliseconds: Int64
    /// How many have begun since the TD was made.
    public var storms: UInt64
    /// When the one began that rages now: RFC 3339, UTC.
    public var since: String?

    public init(rule: ConversionStormRule, storms: UInt64, since: String?) {
        conversions = rule.conversions
        windowMilliseconds = rule.windowMilliseconds
        self.storms = storms
        self.since = since
    }

    enum CodingKeys: String, CodingKey {
        case conversions
        case windowMilliseconds = "window_ms"
        case storms, since
    }
}

/// One conversion as it went.
public struct ConversionAccount: Codable, Hashable, Sendable {
    public enum Origin: String, Codable, Hashable, Sendable, CaseIterable {
        case host, guest
    }

    public enum Outcome: String, Codable, Hashable, Sendable, CaseIterable {
        case done, cancelled, failed
    }

    /// Counted from 1 since the TD was made.
    public var number: UInt64
    /// RFC 3339, UTC.
    public var endedAt: String
    public var gpa: UInt64
    public var bytes: UInt64
    public var to: MemorySide
    public var origin: Origin
    /// Requests that were served together.
    public var requests: Int
    public var changedBytes: UInt64
    public var discardedBytes: UInt64
    public var microseconds: UInt64
    public var outcome: Outcome
    /// How far into the range it came.
    public var doneBytes: UInt64
    /// For what was cancelled or failed.
    public var reason: String?

    public init(
        number: UInt64, endedAt: String, gpa: UInt64, bytes: UInt64, to: MemorySide, origin: Origin, requests: Int,
        changedBytes: UInt64, discardedBytes: UInt64, microseconds: UInt64, outcome: Outcome, doneBytes: UInt64,
        reason: String?
    ) {
        self.number = number
        self.endedAt = endedAt
        self.gpa = gpa
        self.bytes = bytes
        self.to = to
        self.origin = origin
        self.requests = requests
        self.changedBytes = changedBytes
        self.discardedBytes = discardedBytes
        self.microseconds = microseconds
        self.outcome = outcome
        self.doneBytes = doneBytes
        self.reason = reason
    }

    enum CodingKeys: String, CodingKey {
        case number
        case endedAt = "ended_at"
        case gpa, bytes, to, origin, requests
        case changedBytes = "changed_bytes"
        case discardedBytes = "discarded_bytes"
        case microseconds, outcome
        case doneBytes = "done_bytes"
        case reason
    }
}
