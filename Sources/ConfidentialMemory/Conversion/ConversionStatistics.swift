public import MemoryUnits

/// A distribution of one number, within one per cent.
public struct Distribution: Hashable, Sendable {
    public var count: UInt64
    public var median: UInt64
    public var percentile90: UInt64
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
    /// Conversions that something refused on the way.
    public var failures: UInt64
    /// Conversions that were no longer wanted on the way.
    public var cancelled: UInt64
    /// Requests that were served together with another.
    public var merged: UInt64

    public var count: UInt64 { size.count }
}

/// A guest's conversions at one moment.
public struct ConversionReport: Hashable, Sendable {
    public var toPrivate: ConversionStatistics
    public var toShared: ConversionStatistics
    /// Hottest first; `ConversionObserver.hotBlocks` at most.
    public var hottest: [HotBlock]
    public var storm: StormStatus
    /// The last ones, oldest first.
    public var records: [ConversionRecord]
}
