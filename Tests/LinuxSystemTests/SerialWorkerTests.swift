import LinuxSystem
import Synchronization
import Testing

@Suite struct SerialWorkerTests {
    @Test func `a worker is idle when nothing runs or waits`() throws {
        let worker = try SerialWorker(named: "test")
        let gate = Monitor(false)
        let done = Monitor(0)
        #expect(worker.isIdle)
        for _ in 0..<2 {
            worker.run {
                gate.wait { $0 ? () : nil }
                done.update { $0 += 1 }
            }
        }
        #expect(!worker.isIdle)
        gate.update { $0 = true }
        done.wait { $0 == 2 ? () : nil }
        let deadline = MonotonicInstant.now + .seconds(120)
        while !worker.isIdle { try #require(MonotonicInstant.now < deadline, "the worker is not idle after 120 s") }
    }
}
