import Benchmark
import ConfidentialMemory
import MemoryUnits
import TDXModule
import Varlink

/// Allocation counts and instruction counts are not available in this form; time is compared with a tolerance.
let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: [.wallClock, .cpuTotal, .throughput], warmupIterations: 3, maxDuration: .seconds(2),
        maxIterations: 10_000)

    Benchmark("map.set-and-clear-one-page") { benchmark in
        var map = PageAttributeMap()
        map.set(GuestFrameNumber(0)..<GuestFrameNumber(1 << 28), to: .private)
        benchmark.startMeasurement()
        for step in 0..<UInt64(1000) {
            let first = GuestFrameNumber(step &* 0x9e37_79b9 & 0xfff_ffff)
            map.set(first..<first + PageCount(1), to: .shared)
            map.set(first..<first + PageCount(1), to: .private)
        }
        benchmark.stopMeasurement()
    }

    Benchmark("map.lookup") { benchmark in
        var map = PageAttributeMap()
        for page in stride(from: UInt64(0), to: 1 << 20, by: 3) {
            map.set(GuestFrameNumber(page)..<GuestFrameNumber(page + 1), to: .private)
        }
        var found: UInt64 = 0
        benchmark.startMeasurement()
        for step in 0..<UInt64(100_000) {
            found &+= UInt64(map[GuestFrameNumber(step &* 0x9e37_79b9 & 0xf_ffff)].rawValue)
        }
        benchmark.stopMeasurement()
        blackHole(found)
    }

    Benchmark("module.bring-up") { benchmark in
        let module = try TDXModule(
            platform: PlatformDescription(memory: .gibibytes(4)), memory: ContentlessMemory(), seed: 1)
        blackHole(module.bringUp())
    }
}
