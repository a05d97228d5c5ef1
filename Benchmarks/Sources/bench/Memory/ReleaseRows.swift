import CPeers
import ConfidentialMemory
import MemoryUnits

/// Release includes everything up to the closed files, and that nothing is left is read with cachestat(2) in our case.
func measureRelease(_ report: inout Report) throws {
    let size = ByteCount.gibibytes(8)
    let gibibytes = Double(size.rawValue) / Double(1 << 30)
    let shards = ShardPlan(
        regions: [GuestPhysicalRange(start: GuestPhysicalAddress(0), size: size)],
        policy: .automatic(cpus: report.machine.processors)
    ).shards
    let medians = try interleaved(
        runs: report.runs,
        [
            {
                let subject = try RealMemory(size)
                try subject.memory.preallocate(threads: 2)
                let time = try nanoseconds { try subject.tearDown() }
                return gibibytes / (time / 1e9)
            },
            {
                let file = try makePeer(size)
                guard peer_memory_allocate(file, 2 << 20) > 0 else {
                    peer_memory_close(file)
                    throw Unavailable("the peer got no memory")
                }
                return gibibytes / (Double(peer_memory_close_timed(file)) / 1e9)
            },
            {
                var files: [peer_memory] = []
                for shard in shards { files.append(try makePeer(shard.range.size)) }
                guard peer_memories_allocate(files, Int32(files.count), 2 << 20) > 0 else {
                    for file in files { peer_memory_close(file) }
                    throw Unavailable("the peer got no memory")
                }
                let time = try checked(peer_memories_release(files, Int32(files.count), 2, 32 << 20))
                return gibibytes / (time / 1e9)
            },
        ])
    report.rows.append(
        Row(
            report.area, "release 8 GiB in \(shards.count) shards, 2 threads, against one file",
            Pair(ours: medians[0], peer: medians[1]), "GiB/s", against: "C, closing one guest_memfd",
            .ratio(atLeast: 1.7)))
    report.rows.append(
        Row(
            report.area, "release 8 GiB in \(shards.count) shards, 2 threads, against the same shards",
            Pair(ours: medians[0], peer: medians[2]), "GiB/s",
            against: "C, punching the same shards with 2 threads, closing them", .ratio(atLeast: 0.95)))
}
