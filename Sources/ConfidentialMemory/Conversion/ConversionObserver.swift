internal import Histogram
public import LinuxSystem
internal import MemoryUnits
internal import Synchronization

/// What is reported at once.
public enum ConversionEvent: Hashable, Sendable {
    /// A conversion was refused on the way.
    case failed(ConversionRecord)
    case stormBegan(StormStatus)
}

/// What is remembered of a guest's conversions: distributions, the last thousand, the hottest blocks, and storms.
public final class ConversionObserver: Sendable {
    /// Conversions that are remembered one by one.
    public static let remembered = 1_000
    public static let hotBlocks = 64

    private struct Direction: ~Copyable {
        // 2 digits: within 1 %. Sizes to 16 TiB in pages, times to an hour in microseconds.
        var size = Histogram<UInt32>(highestTrackableValue: 1 << 32, numberOfSignificantValueDigits: .two)
        var latency = Histogram<UInt32>(highestTrackableValue: 3_600_000_000, numberOfSignificantValueDigits: .two)
        var changed = ByteCount.zero
        var discarded = ByteCount.zero
        var failures: UInt64 = 0
        var cancelled: UInt64 = 0
        var merged: UInt64 = 0
    }

    private struct State: ~Copyable {
        var toPrivate = Direction()
        var toShared = Direction()
        var ring: [ConversionRecord] = []
        var total: UInt64 = 0
        var heat = HotBlocks(capacity: ConversionObserver.hotBlocks)
        var storm: StormDetector
    }

    private let state: Mutex<State>
    private let onEvent: @Sendable (ConversionEvent, ConversionObserver) -> Void

    /// - Parameter onEvent: called with this observer, on the thread that converts, while others wait for it: it neither
    ///   blocks nor converts.
    public init(
        storm: StormRule = StormRule(),
        onEvent: @escaping @Sendable (ConversionEvent, ConversionObserver) -> Void = { _, _ in }
    ) {
        state = Mutex(State(storm: StormDetector(storm)))
        self.onEvent = onEvent
    }

    // MARK: Noting

    func note(_ record: ConversionRecord) {
        var record = record
        let storm = state.withLock { state -> StormStatus? in
            state.total += 1
            record.number = state.total
            if record.side == .private {
                Self.add(record, to: &state.toPrivate)
            } else {
                Self.add(record, to: &state.toShared)
            }
            if state.ring.count < Self.remembered {
                state.ring.append(record)
            } else {
                state.ring[Int((state.total - 1) % UInt64(Self.remembered))] = record
            }
            state.heat.touch(record.range.start.rawValue >> 21)
            guard state.storm.note(record.end.nanoseconds) else { return nil }
            return state.storm.status(at: record.end.nanoseconds)
        }
        if record.failure != nil, !record.isCancelled { onEvent(.failed(record), self) }
        if let storm { onEvent(.stormBegan(storm), self) }
    }

    private static func add(_ record: ConversionRecord, to direction: inout Direction) {
        _ = direction.size.record(record.range.size.pages.rawValue)
        _ = direction.latency.record(record.microseconds)
        direction.changed += record.result.changed
        direction.discarded += record.result.discarded
        if record.isCancelled {
            direction.cancelled += 1
        } else if record.failure != nil {
            direction.failures += 1
        }
        direction.merged += UInt64(record.requests - 1)
    }

    // MARK: Looking

    /// Everything, as of one moment.
    /// - Parameters:
    ///   - last: how many conversions are listed one by one, 0 to `remembered`.
    ///   - now: not before the last conversion's end.
    public func report(last: Int = remembered, now: MonotonicInstant = .now) -> ConversionReport {
        precondition(last >= 0, "a number of conversions")
        return state.withLock { state in
            let records = Self.ordered(state)
            return ConversionReport(
                toPrivate: Self.statistics(.private, state.toPrivate),
                toShared: Self.statistics(.shared, state.toShared), hottest: state.heat.blocks,
                storm: state.storm.status(at: now.nanoseconds), records: Array(records.suffix(last)))
        }
    }

    /// The remembered conversions after a number, oldest first.
    public func records(after number: UInt64 = 0) -> [ConversionRecord] {
        state.withLock { state in
            let records = Self.ordered(state)
            return Array(records.drop { $0.number <= number })
        }
    }

    private static func ordered(_ state: borrowing State) -> [ConversionRecord] {
        guard state.ring.count == remembered else { return state.ring }
        let oldest = Int(state.total % UInt64(remembered))
        return Array(state.ring[oldest...] + state.ring[..<oldest])
    }

    public func statistics(to side: MemorySide) -> ConversionStatistics {
        state.withLock { state in
            side == .private ? Self.statistics(side, state.toPrivate) : Self.statistics(side, state.toShared)
        }
    }

    private static func statistics(_ side: MemorySide, _ direction: borrowing Direction) -> ConversionStatistics {
        ConversionStatistics(
            side: side, size: distribution(direction.size, unit: pageSize), latency: distribution(direction.latency),
            changed: direction.changed, discarded: direction.discarded, failures: direction.failures,
            cancelled: direction.cancelled, merged: direction.merged)
    }

    private static func distribution(_ histogram: Histogram<UInt32>, unit: UInt64 = 1) -> Distribution {
        func value(_ percentile: Double) -> UInt64 {
            histogram.totalCount > 0 ? histogram.valueAtPercentile(percentile) * unit : 0
        }
        return Distribution(
            count: histogram.totalCount, median: value(50), percentile90: value(90), percentile99: value(99),
            maximum: value(100))
    }
}
