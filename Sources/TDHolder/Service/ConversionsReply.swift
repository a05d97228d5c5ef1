internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

// What a TD's memory remembers of its conversions, as io.tdxd.Holder returns it.

/// Two clocks read at once, for the calendar's time of something that was measured by the monotonic clock.
struct ClockPair {
    var wall = WallTime.now
    var monotonic = MonotonicInstant.now

    /// RFC 3339, UTC. Off by as much as the calendar's clock was set since.
    func rfc3339(_ instant: MonotonicInstant) -> String {
        WallTime(nanoseconds: wall.nanoseconds - (monotonic - instant).nanosecondsClamped).rfc3339
    }
}

extension HolderInterface.Conversions.Reply {
    init(_ report: ConversionReport, _ clocks: ClockPair) {
        self.init(
            directions: [ConversionDirection(report.toPrivate), ConversionDirection(report.toShared)],
            hottest: report.hottest.map {
                ConversionHotBlock(
                    gpa: $0.address.rawValue, bytes: HotBlock.size.rawValue, conversions: $0.conversions)
            },
            storm: ConversionStorm(
                conversions: report.storm.rule.conversions,
                windowMilliseconds: Int64(clamping: report.storm.rule.milliseconds), storms: report.storm.storms,
                since: report.storm.since.map { clocks.rfc3339($0) }),
            conversions: report.records.map { ConversionAccount($0, clocks) })
    }
}

extension ConversionDirection {
    init(_ statistics: ConversionStatistics) {
        self.init(
            to: statistics.side, count: statistics.count,
            changedBytes: statistics.changed.rawValue, discardedBytes: statistics.discarded.rawValue,
            failures: statistics.failures, cancelled: statistics.cancelled, merged: statistics.merged,
            sizeBytes: ValueDistribution(statistics.size), microseconds: ValueDistribution(statistics.latency))
    }
}

extension ValueDistribution {
    init(_ values: Distribution) {
        self.init(
            median: values.median, percentile90: values.percentile90, percentile99: values.percentile99,
            maximum: values.maximum)
    }
}

extension ConversionAccount {
    init(_ record: ConversionRecord, _ clocks: ClockPair) {
        let outcome: Outcome = record.failure == nil ? .done : record.isCancelled ? .cancelled : .failed
        self.init(
            number: record.number, endedAt: clocks.rfc3339(record.end), gpa: record.range.start.rawValue,
            bytes: record.range.size.rawValue, to: record.side,
            origin: record.origin == .guest ? .guest : .host, requests: record.requests,
            changedBytes: record.result.changed.rawValue, discardedBytes: record.result.discarded.rawValue,
            microseconds: record.microseconds, outcome: outcome,
            doneBytes: ((record.failure?.end ?? record.range.end) - record.range.start).rawValue,
            reason: record.failure?.description)
    }
}
