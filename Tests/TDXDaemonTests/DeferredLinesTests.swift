import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import TDXDaemon

@Suite struct DeferredLinesTests {
    @Test func `lines from several threads are all written, each thread's in order, and never two at once`() throws {
        let loop = try EventLoop()
        let lines = DeferredLines(loop, WorkerPool(name: "work", limit: 4, lingerMilliseconds: 1))
        let written = Mutex<[(writer: Int, number: Int)]>([])
        let isWriting = Atomic(false)
        let serving = try SystemThread(name: "loop") { loop.run() }
        let writers = try (0..<3).map { writer in
            try SystemThread(name: "writer") {
                for number in 0..<200 {
                    lines.add {
                        let exchange = isWriting.compareExchange(
                            expected: false, desired: true, ordering: .acquiringAndReleasing)
                        #expect(exchange.exchanged)
                        written.withLock { $0.append((writer, number)) }
                        isWriting.store(false, ordering: .releasing)
                    }
                    // Some find lines that wait, some find none.
                    if number % 50 == 0 { usleep(60_000) }
                }
            }
        }
        for writer in writers { writer.join() }
        waitUntilIdle(lines)
        loop.stop()
        serving.join()
        let all = written.withLock { $0 }
        for writer in 0..<3 { #expect(all.filter { $0.writer == writer }.map(\.number) == Array(0..<200)) }
    }

    @Test func `what waits for a moment counts as under way until it is written`() throws {
        let loop = try EventLoop()
        let lines = DeferredLines(loop, WorkerPool(name: "work", limit: 1, lingerMilliseconds: 1))
        #expect(!lines.isUnderWay)
        lines.add { loop.stop() }
        #expect(lines.isUnderWay)
        loop.run()
        waitUntilIdle(lines)
    }

    private func waitUntilIdle(_ lines: DeferredLines) {
        let deadline = MonotonicInstant.now + .seconds(120)
        while lines.isUnderWay, MonotonicInstant.now < deadline { usleep(1000) }
        #expect(!lines.isUnderWay, "lines are not written within 120 s")
    }
}
