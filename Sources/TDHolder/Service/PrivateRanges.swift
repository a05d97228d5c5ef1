internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits

/// What a range file is made of, with a file of its own.
struct WrittenRanges: ~Copyable {
    var sequence: UInt64
    var file: OwnedDescriptor
}

extension GuestMemory {
    /// How much of the map is looked at in one go, so that not all ranges of a large fragmented TD are in memory at once.
    private static let stride = PageCount(1 << 18)

    /// Writes the ranges that are private or in transition at this moment into a sealed file. Conversions wait for the
    /// snapshot alone, which takes a reference for each GiB.
    func writePrivateRanges() throws(LinuxError) -> WrittenRanges {
        let snapshot = snapshot()
        var builder = try SealedFileBuilder(name: "tdxd.private-ranges")
        var encoder = PrivateRangeEncoder()
        for range in shardRanges {
            var first = range.frames.lowerBound.rawValue
            let end = range.frames.upperBound.rawValue
            while first < end {
                let stop = min(end, first + Self.stride.rawValue)
                for run in snapshot.runs(in: GuestFrameNumber(first)..<GuestFrameNumber(stop))
                where run.state.countsAsPrivate {
                    let start = run.frames.lowerBound.rawValue
                    encoder.add(
                        start: start, pages: run.frames.upperBound.rawValue - start, PageAttribute(run.state))
                }
                first = stop
                try builder.append(encoder.take())
            }
        }
        try builder.append(encoder.take(isLast: true))
        return WrittenRanges(sequence: snapshot.sequence, file: try builder.sealed())
    }
}
