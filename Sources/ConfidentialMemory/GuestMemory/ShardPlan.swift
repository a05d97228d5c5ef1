public import MemoryUnits

/// How a guest's memory is cut into backing files.
///
/// Releasing guest_memfd pages is exclusive per file, so one file is released by one CPU whatever the host has
/// (reference: kvm.md §6: two threads on one file are no faster than one, on two files 1.95 times). A shard is one
/// guest_memfd, one file for the shared side and one memslot.
public struct ShardPolicy: Hashable, Sendable {
    /// The most files for one region; at least 1.
    public var maximumPerRegion: Int
    /// A shard is not made smaller than this where the region is larger; whole 2 MiB blocks.
    public var minimumSize: ByteCount

    public init(maximumPerRegion: Int, minimumSize: ByteCount = .mebibytes(256)) {
        precondition(maximumPerRegion > 0, "a region has at least one shard")
        precondition(
            minimumSize.rawValue > 0 && minimumSize.rawValue % ShardPlan.alignment.rawValue == 0,
            "shards are whole blocks of 2 MiB")
        self.maximumPerRegion = maximumPerRegion
        self.minimumSize = minimumSize
    }

    /// Two shards a CPU, so that CPUs that finish early find more to do, and 64 at most.
    public static func automatic(cpus: Int) -> Self {
        Self(maximumPerRegion: min(64, max(2, 2 * cpus)))
    }
}

/// The shards of a guest, in ascending order of address. The index of a shard is its memslot's id.
public struct ShardPlan: Hashable, Sendable {
    /// Every shard but a region's last ends on such a border: the largest block that the kernel zaps at once.
    public static var alignment: ByteCount { .mebibytes(2) }

    public struct Shard: Hashable, Sendable {
        /// Which of the guest's regions it lies in, counted from 0 in ascending order.
        public var region: Int
        public var range: GuestPhysicalRange
    }

    public let shards: [Shard]

    /// Cuts regions, which are page aligned, disjoint, not empty and in ascending order.
    public init(regions: [GuestPhysicalRange], policy: ShardPolicy) {
        var shards: [Shard] = []
        for (index, region) in regions.enumerated() {
            precondition(region.isPageAligned && !region.isEmpty, "a region is whole pages: \(region)")
            precondition(index == 0 || regions[index - 1].end <= region.start, "regions ascend: \(region)")
            let size = Self.shardSize(region.size, policy)
            var start = region.start
            while start < region.end {
                // Shards begin on 2 MiB borders where the region does.
                let length = min(size, region.end - start)
                shards.append(Shard(region: index, range: GuestPhysicalRange(start: start, size: length)))
                start = start + length
            }
        }
        self.shards = shards
    }

    private static func shardSize(_ region: ByteCount, _ policy: ShardPolicy) -> ByteCount {
        let share = max(
            (region.rawValue + UInt64(policy.maximumPerRegion) - 1) / UInt64(policy.maximumPerRegion),
            policy.minimumSize.rawValue)
        return ByteCount((share + alignment.rawValue - 1) / alignment.rawValue * alignment.rawValue)
    }
}
