extension GuestMemory {
    /// The last thousand conversions, oldest first.
    public var conversionRecords: [ConversionRecord] { observer.records }

    /// How conversions to a side went, since the guest's memory was made.
    public func conversionStatistics(to side: MemorySide) -> ConversionStatistics { observer.statistics(to: side) }

    /// The 2 MiB blocks that are converted most often, hottest first; 64 at most.
    public var hottestBlocks: [HotBlock] { observer.hottest }

    /// How often conversions have become a storm.
    public var conversionStorms: UInt64 { observer.storms }

    /// Says from now on when conversions count as a storm.
    public func setStormRule(_ rule: StormRule) { observer.setStormRule(rule) }
}
