extension HolderSettings {
    public static let shardMinimums: ClosedRange<UInt64> = 2 << 20...1 << 40
    public static let shardUnit: UInt64 = 2 << 20
    public static let threadCounts = 1...64

    /// - Throws: `ControlError.invalidField` for the first value that is out of its range.
    public func checked() throws(ControlError) -> Self {
        if let minimum = shardMinimumBytes {
            guard Self.shardMinimums.contains(minimum), minimum % Self.shardUnit == 0 else {
                throw .invalidField(
                    field: "settings.shard_minimum_bytes", value: String(minimum),
                    limit: "a multiple of \(Self.shardUnit) from \(Self.shardMinimums.lowerBound) to "
                        + "\(Self.shardMinimums.upperBound)")
            }
        }
        if let chunk = releaseChunkBytes {
            guard ReleaseLimits.chunk.contains(chunk), chunk % ReleaseLimits.chunkUnit == 0 else {
                throw .invalidField(
                    field: "settings.release_chunk_bytes", value: String(chunk),
                    limit: "a multiple of \(ReleaseLimits.chunkUnit) from \(ReleaseLimits.chunk.lowerBound) to "
                        + "\(ReleaseLimits.chunk.upperBound)")
            }
        }
        if let threads = releaseThreads, !Self.threadCounts.contains(threads) {
            throw .invalidField(
                field: "settings.release_threads", value: String(threads),
                limit: "\(Self.threadCounts.lowerBound) to \(Self.threadCounts.upperBound)")
        }
        if let number = emulation?.failingRemoval, !(1...UInt64(Int.max)).contains(number) {
            throw .invalidField(
                field: "settings.emulation.failing_removal", value: String(number), limit: "1 to \(Int.max)")
        }
        return self
    }
}
