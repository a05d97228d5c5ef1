import CPeers

/// Medians of the same work by two programs.
struct Pair {
    var ours: Double
    var peer: Double
}

func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// Runs several candidates in turns and returns the median of each. Who begins changes from round to round, so that
/// neither profits from a cache that the other warmed or from a quiet moment.
func interleaved<Failure: Error>(
    runs: Int, _ candidates: [() throws(Failure) -> Double]
) throws(Failure) -> [Double] {
    var values = [[Double]](repeating: [], count: candidates.count)
    for round in 0..<runs {
        for turn in candidates.indices {
            let index = (round + turn) % candidates.count
            values[index].append(try candidates[index]())
        }
    }
    return values.map(median)
}

func interleaved(
    runs: Int, ours: @escaping () throws -> Double, peer: @escaping () throws -> Double
) throws -> Pair {
    let medians = try interleaved(runs: runs, [ours, peer])
    return Pair(ours: medians[0], peer: medians[1])
}

/// Nanoseconds of CPU time that this thread spends in `body`: for what computes in one thread.
@inline(__always)
func cpuNanoseconds(_ body: () throws -> Void) rethrows -> Double {
    let start = peer_cpu()
    try body()
    return Double(peer_cpu() - start)
}

/// Nanoseconds that pass during `body`: for what the kernel or several threads do.
@inline(__always)
func nanoseconds(_ body: () throws -> Void) rethrows -> Double {
    let start = peer_now()
    try body()
    return Double(peer_now() - start)
}

/// A repeatable source of numbers (SplitMix64).
struct Repeatable: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
