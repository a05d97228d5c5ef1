import CPeers
import ConfidentialMemory
import MemoryUnits

private let step = ByteCount.mebibytes(2).rawValue

/// What one thread does is all the kernel's work on its behalf: its own clock tells it without what other programs on the
/// machine take. Of several threads only the common clock tells.
private func clock(_ threads: Int, _ work: () throws -> Void) rethrows -> Double {
    try threads == 1 ? cpuNanoseconds(work) : nanoseconds(work)
}

func measureAllocation(_ report: inout Report) throws {
    let size = ByteCount.gibibytes(4)
    let gibibytes = Double(size.rawValue) / Double(1 << 30)
    for threads in [1, 2] {
        let pair = try interleaved(
            runs: report.runs,
            ours: {
                let subject = try RealMemory(size)
                let time = try clock(threads) { try subject.memory.preallocate(threads: threads) }
                try subject.tearDown()
                return gibibytes / (time / 1e9)
            },
            peer: {
                let part = ByteCount(size.rawValue / UInt64(threads))
                var files: [peer_memory] = []
                defer { for file in files { peer_memory_close(file) } }
                for _ in 0..<threads { files.append(try makePeer(part)) }
                let time = try clock(threads) {
                    _ = try checked(
                        threads == 1
                            ? peer_memory_allocate(files[0], step)
                            : peer_memories_allocate(files, Int32(threads), step))
                }
                return gibibytes / (time / 1e9)
            })
        report.rows.append(
            Row(
                report.area, "allocate 4 GiB of guest_memfd, \(threads == 1 ? "1 thread" : "2 threads")", pair,
                threads == 1 ? "GiB/s of CPU time" : "GiB/s",
                against: "C, fallocate in 2 MiB steps, \(threads == 1 ? "one file" : "a file a thread")",
                .ratio(atLeast: 0.97)))
    }
}
