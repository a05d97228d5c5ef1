internal import CLinux
internal import Glibc
internal import LinuxSystem

/// How fast one CPU of this host writes memory: what a reset of all memory would cost follows from it.
enum WriteRate {
    private static let size = 64 << 20

    /// Bytes a second of the best of three passes over 64 MiB that are resident; takes about 50 ms. Nil without memory.
    static func measure() -> Double? {
        let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else { return nil }
        defer { munmap(memory, size) }
        // Pages are made by the first pass, which is none of those that count.
        memset(memory, 1, size)
        let best = (2...4).map { value in
            let start = MonotonicInstant.now
            tdxd_stream_fill(memory, size, UInt8(value))
            return MonotonicInstant.now.milliseconds(since: start)
        }.min()
        return best.flatMap { $0 > 0 ? Double(size) / $0 * 1000 : nil }
    }
}
