internal import Histogram
public import LinuxSystem
public import MemoryUnits
internal import Synchronization

/// Who asked for a conversion.
public enum ConversionOrigin: String, Hashable, Sendable, CaseIterable {
    case host
    case guest
}

/// One conversion as it went.
public struct ConversionRecord: Hashable, Sendable {
    public var range: GuestPhysicalRange
    public var side: MemorySide
    public var origin: ConversionOrigin
    /// Requests that were merged into it.
    public var requests: Int
    public var result: ConversionResult
    /// Nil for one that reached its end.
    public var failure: IncompleteConversion?
    public var start: MonotonicInstant
    public var end: MonotonicInstant

    /// Microseconds that it took.
    public var microseconds: UInt64 { (end.nanoseconds - min(start.nanoseconds, end.nanoseconds)) / 1000 }
}

/// When conversions count as a storm.
public struct StormRule: Hashable, Sendable {
    /// More conversions than this …
    public var conversions: Int
    /// … within so many milliseconds.
    public var milliseconds: UInt64

    public init(conversions: Int = 10_000, milliseconds: UInt64 = 1_000) {
        precondition(conversions > 0 && milliseconds > 0, "a storm has a number and a time")
        self.conversions = conversions
        self.milliseconds = milliseconds
    }
}

/// A distribution of one number.
public struct Distribution: Hashable, Sendable {
    public var count: UInt64
    public var median: UInt64
    public var percentile99: UInt64
    public var maximum: UInt64
}

/// How conversions of one direction went.
public struct ConversionStatistics: Hashable, Sendable {
    public var side: MemorySide
    /// Bytes asked for, a conversion.
    public var size: Distribution
    /// Microseconds, a conversion.
    public var latency: Distribution
    public var changed: ByteCount
    public var discarded: ByteCount
    public var failures: UInt64
    /// Requests that were served together with another.
    public var merged: UInt64
}

/// A 2 MiB block that is converted often. The count may be too high by as much as that of a block that it displaced.
public struct HotBlock: Hashable, Sendable {
    public var address: GuestPhysicalAddress
    public var conversions: UInt64
}

/// What is remembered of a guest's conversions: distributions, the last thousand, the hottest blocks, and storms.
final class ConversionObserver: Sendable {
    static let remembered = 1_000
    static let hotBlocks = 64

    private struct Direction: ~Copyable {
        // 2 digits: within 1 %. Sizes to 16 TiB in pages, times to an hour in microseconds.
        var size = Histogram<UInt32>(highestTrackableValue: 1 << 32, numberOfSignificantValueDigits: .two)
        var latency = Histogram<UInt32>(highestTrackableValue: 3_600_000_000, numberOfSignificantValueDigits: .two)
        var changed = ByteCount.zero
        var discarded = ByteCount.zero
        var failures: UInt64 = 0
        var merged: UInt64 = 0
    }

    private struct State: ~Copyable {
        var toPrivate = Direction()
        var toShared = Direction()
        var ring: [ConversionRecord] = []
        var total: UInt64 = 0
        var heat = HotBlocks(capacity: ConversionObserver.hotBlocks)
        var storm = StormDetector(StormRule())
    }

    private let state = Mutex(State())

    func note(_ record: ConversionRecord) {
        state.withLock { state in
            if record.side == .private {
                Self.add(record, to: &state.toPrivate)
            } else {
                Self.add(record, to: &state.toShared)
            }
            if state.ring.count < Self.remembered {
                state.ring.append(record)
            } else {
                state.ring[Int(state.total % UInt64(Self.remembered))] = record
            }
            state.total += 1
            state.heat.touch(record.range.start.rawValue >> 21)
            state.storm.note(record.end.nanoseconds)
        }
    }

    private static func add(_ record: ConversionRecord, to direction: inout Direction) {
        _ = direction.size.record(record.range.size.pages.rawValue)
        _ = direction.latency.record(record.microseconds)
        direction.changed += record.result.changed
        direction.discarded += record.result.discarded
        if record.failure != nil { direction.failures += 1 }
        direction.merged += UInt64(record.requests - 1)
    }

    /// The last conversions, oldest first.
    var records: [ConversionRecord] {
        state.withLock { state in
            guard state.ring.count == Self.remembered else { return state.ring }
            let oldest = Int(state.total % UInt64(Self.remembered))
            return Array(state.ring[oldest...] + state.ring[..<oldest])
        }
    }

    func statistics(to side: MemorySide) -> ConversionStatistics {
        state.withLock { state in
            side == .private ? Self.statistics(side, state.toPrivate) : Self.statistics(side, state.toShared)
        }
    }

    private static func statistics(_ side: MemorySide, _ direction: borrowing Direction) -> ConversionStatistics {
        var size = distribution(direction.size)
        size.median *= pageSize
        size.percentile99 *= pageSize
        size.maximum *= pageSize
        return ConversionStatistics(
            side: side, size: size, latency: distribution(direction.latency), changed: direction.changed,
            discarded: direction.discarded, failures: direction.failures, merged: direction.merged)
    }

    private static func distribution(_ histogram: Histogram<UInt32>) -> Distribution {
        guard histogram.totalCount > 0 else { return Distribution(count: 0, median: 0, percentile99: 0, maximum: 0) }
        return Distribution(
            count: histogram.totalCount, median: histogram.valueAtPercentile(50),
            percentile99: histogram.valueAtPercentile(99), maximum: histogram.valueAtPercentile(100))
    }

    var hottest: [HotBlock] { state.withLock { $0.heat.blocks } }

    var storms: UInt64 { state.withLock { $0.storm.storms } }

    func setStormRule(_ rule: StormRule) { state.withLock { $0.storm = StormDetector(rule) } }
}

/// The blocks touched most often, among any number, in bounded space: when the table is full, the coolest block makes
/// room and its count is inherited (the space-saving algorithm), so that no block that is truly hot is missed.
struct HotBlocks: Sendable {
    private let capacity: Int
    private var counts: [UInt64: UInt64] = [:]

    init(capacity: Int) {
        self.capacity = capacity
        counts.reserveCapacity(capacity)
    }

    mutating func touch(_ block: UInt64) {
        if let count = counts[block] {
            counts[block] = count + 1
        } else if counts.count < capacity {
            counts[block] = 1
        } else if let coolest = counts.min(by: { ($0.value, $0.key) < ($1.value, $1.key) }) {
            counts[coolest.key] = nil
            counts[block] = coolest.value + 1
        }
    }

    /// Hottest first.
    var blocks: [HotBlock] {
        counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            .map { HotBlock(address: GuestPhysicalAddress($0.key << 21), conversions: $0.value) }
    }
}

/// Counts storms: a storm begins when more conversions than the rule allows fall into one window, and ends with the
/// first window that holds fewer. Pure; fed with times.
struct StormDetector: Sendable {
    private let rule: StormRule
    private var window: UInt64?
    private var count = 0
    private var isStorm = false
    private(set) var storms: UInt64 = 0

    init(_ rule: StormRule) { self.rule = rule }

    mutating func note(_ nanoseconds: UInt64) {
        let current = nanoseconds / (rule.milliseconds * 1_000_000)
        if current != window {
            // A window that was skipped held none at all.
            if count <= rule.conversions || window.map({ $0 + 1 != current }) ?? true { isStorm = false }
            window = current
            count = 0
        }
        count += 1
        if count > rule.conversions, !isStorm {
            isStorm = true
            storms += 1
        }
    }
}
