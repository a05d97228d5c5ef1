internal import KVM
internal import LinuxSystem
public import MemoryUnits
internal import Synchronization

/// A run of guest memory that the host pays for twice: its other side is resident too.
public struct DoubleResidency: Hashable, Sendable {
    public var range: GuestPhysicalRange
    /// The side that the guest cannot reach, whose pages are wasted.
    public var wasted: MemorySide
    /// Bytes of it that are present, by cachestat(2).
    public var bytes: ByteCount
}

/// What `verify` found.
public struct MemoryVerification: Hashable, Sendable {
    /// In ascending order.
    public var doubles: [DoubleResidency] = []
    /// Bytes looked at.
    public var checked: ByteCount = .zero
    public var wasted: ByteCount { doubles.reduce(.zero) { $0 + $1.bytes } }
}

extension GuestMemory {
    /// Finds the runs whose other side is still resident. Nothing in place, where both sides are one file.
    ///
    /// Conversions wait meanwhile, so that no run is seen half-way.
    /// - Complexity: one cachestat(2) a run and shard, and about 20 ms a resident GiB.
    public func verify() throws(GuestMemoryError) -> MemoryVerification {
        try conversionLock.withLock { _ throws(GuestMemoryError) in try look { _, _, _ throws(KVMError) in } }
    }

    /// As `verify`, and gives the wasted pages back. What it returns is what it found and freed.
    /// - Throws: the first refusal; what was freed before stays free.
    public func reclaim() throws(GuestMemoryError) -> MemoryVerification {
        try conversionLock.withLock { _ throws(GuestMemoryError) in
            try look { shard, range, wasted throws(KVMError) in
                if wasted == .shared, shard.sharedFile != nil {
                    shard.mapping.dropMappings(offset: range.offset, length: range.length)
                }
                try (wasted == .private ? shard.file : shard.sharedFile ?? shard.file).punchHole(range)
            }
        }
    }

    private func look(
        _ found: (Shard, FileRange, MemorySide) throws(KVMError) -> Void
    ) throws(GuestMemoryError) -> MemoryVerification {
        var result = MemoryVerification()
        guard sides == .apart else {
            result.checked = size
            return result
        }
        for run in runs() {
            let range = run.frames.bytes
            result.checked += range.size
            // Nothing is converting while the lock is held.
            let wasted: MemorySide = run.state == .private ? .shared : .private
            for (shard, part) in parts(of: range) ?? [] {
                guard let sharedFile = shard.sharedFile else { continue }
                let place = shard.fileRange(part)
                do throws(KVMError) {
                    let bytes = try (wasted == .private ? shard.file : sharedFile).residentBytes(place)
                    guard bytes > .zero else { continue }
                    try found(shard, place, wasted)
                    result.doubles.append(DoubleResidency(range: part, wasted: wasted, bytes: bytes))
                } catch {
                    throw .refused(error)
                }
            }
        }
        return result
    }
}
