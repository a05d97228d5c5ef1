import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import LinuxSystem

@Suite struct `The event loop` {
    @Test func `work from other threads runs in order on the loop's thread`() throws {
        let loop = try EventLoop()
        let seen = Mutex<[Int]>([])
        #expect(!loop.isOnLoopThread)
        let producer = try SystemThread(name: "producer") {
            for number in 0..<1000 {
                loop.perform {
                    if loop.isOnLoopThread { seen.withLock { $0.append(number) } }
                }
            }
            loop.perform { loop.stop() }
        }
        loop.run()
        producer.join()
        #expect(seen.withLock { $0 } == Array(0..<1000))
        #expect(!loop.isOnLoopThread)
    }

    @Test func `work that hands in more work does not keep the loop from its descriptors`() throws {
        let loop = try EventLoop()
        let pair = try UnixSocket.pair()
        let chain = Chain(loop)
        chain.next()
        try loop.watch(pair.first.rawValue, for: .readable) { _ in loop.stop() }
        _ = try UnixSocket.send([1], on: pair.second)
        loop.run()
        chain.end()
    }

    @Test func `what the loop's own callbacks hand in is done before it sleeps`() throws {
        let loop = try EventLoop()
        let seen = Mutex<[Int]>([])
        // No descriptor and no other thread would ever wake it up.
        loop.schedule(after: .milliseconds(1)) {
            loop.perform {
                seen.withLock { $0.append(2) }
                loop.perform {
                    seen.withLock { $0.append(3) }
                    loop.stop()
                }
            }
            seen.withLock { $0.append(1) }
        }
        loop.run()
        #expect(seen.withLock { $0 } == [1, 2, 3])
    }

    @Test func `a descriptor is told of what it is watched for`() throws {
        let loop = try EventLoop()
        let pair = try UnixSocket.pair()
        var seen: [ReadyEvents] = []
        let watch = try loop.watch(pair.first.rawValue, for: .writable) { events in
            seen.append(events)
            loop.stop()
        }
        loop.run()
        #expect(seen == [.writable])
        watch.change(to: [])
        _ = try UnixSocket.send([1], on: pair.second)
        loop.schedule(after: .milliseconds(1)) { loop.stop() }
        loop.run()
        #expect(seen.count == 1)
        watch.change(to: .readable)
        loop.run()
        #expect(seen == [.writable, .readable])
        watch.cancel()
        loop.schedule(after: .milliseconds(1)) { loop.stop() }
        loop.run()
        #expect(seen.count == 2)
    }

    @Test func `a watch that a callback of the same round cancels is not called`() throws {
        let loop = try EventLoop()
        let first = try UnixSocket.pair()
        let second = try UnixSocket.pair()
        _ = try UnixSocket.send([1], on: first.second)
        _ = try UnixSocket.send([1], on: second.second)
        var watches: [EventLoop.Watch] = []
        var calls = 0
        for number in [first.first.rawValue, second.first.rawValue] {
            watches.append(
                try loop.watch(number, for: .readable) { _ in
                    calls += 1
                    for watch in watches { watch.cancel() }
                    loop.stop()
                })
        }
        loop.run()
        #expect(calls == 1)
    }

    @Test func `what cannot be watched is refused`() throws {
        let loop = try EventLoop()
        let file = OwnedDescriptor(taking: open("/proc/self/exe", O_RDONLY))
        #expect(throws: LinuxError.self) { try loop.watch(file.rawValue, for: .readable) { _ in } }
        let pair = try UnixSocket.pair()
        try loop.watch(pair.first.rawValue, for: .readable) { _ in }
        let error = #expect(throws: LinuxError.self) { try loop.watch(pair.first.rawValue, for: .readable) { _ in } }
        #expect(error?.errno == .fileExists)
    }

    @Test func `timers fire in the order of their times`() throws {
        let loop = try EventLoop()
        var seen: [Int] = []
        let start = MonotonicInstant.now
        loop.schedule(after: .milliseconds(6)) {
            seen.append(3)
            loop.stop()
        }
        loop.schedule(after: .milliseconds(2)) { seen.append(1) }
        loop.schedule(after: .milliseconds(2)) { seen.append(2) }
        loop.schedule(after: .milliseconds(4)) { seen.append(9) }.cancel()
        loop.run()
        #expect(seen == [1, 2, 3])
        #expect(MonotonicInstant.now - start >= .milliseconds(6))
    }

    @Test func `a repeating timer fires until it is cancelled`() throws {
        let loop = try EventLoop()
        var count = 0
        var timer: LoopTimer?
        timer = loop.schedule(every: .milliseconds(1)) {
            count += 1
            if count == 3 {
                timer?.cancel()
                loop.schedule(after: .milliseconds(5)) { loop.stop() }
            }
        }
        loop.run()
        #expect(count == 3)
    }

    @Test func `a stop before the run ends it at once`() throws {
        let loop = try EventLoop()
        loop.stop()
        loop.run()
        loop.schedule(after: .zero) { loop.stop() }
        loop.run()
    }

    @Test(arguments: [1, 2, 3])
    func `the timer queue gives timers by deadline and then by age`(_ seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var queue = TimerQueue()
        var expected: [(deadline: UInt64, age: Int)] = []
        var fired: [Int] = []
        for age in 0..<500 {
            let deadline = random.next() % 100
            let timer = queue.add(at: MonotonicInstant(nanoseconds: deadline), every: nil) { fired.append(age) }
            if random.next() % 3 == 0 { timer.cancel() } else { expected.append((deadline, age)) }
        }
        for now in stride(from: UInt64(0), through: 105, by: 7) {
            for timer in queue.takeDue(at: MonotonicInstant(nanoseconds: now)) { timer.fire() }
        }
        #expect(fired == expected.sorted { ($0.deadline, $0.age) < ($1.deadline, $1.age) }.map(\.age), "seed \(seed)")
    }

    @Test func `cancelled timers do not pile up`() {
        var queue = TimerQueue()
        for number in 0..<10_000 {
            queue.add(at: MonotonicInstant(nanoseconds: UInt64(1_000_000 + number)), every: nil) {}.cancel()
        }
        #expect(queue.count < 1000)
    }

    @Test func `deadlines saturate and round up`() {
        let now = MonotonicInstant(nanoseconds: 1_000)
        #expect((now + .nanoseconds(1)).pollTimeout(from: now) == 1)
        #expect((now + .milliseconds(5)).pollTimeout(from: now) == 5)
        #expect(now.pollTimeout(from: now) == 0)
        #expect((now + .seconds(Int64.max)).pollTimeout(from: now) == Int32.max)
        #expect((now - (now + .seconds(2))) == .seconds(-2))
        #expect((now + .seconds(-1)).nanoseconds == 0)
    }
}

/// Work that hands itself in again.
private final class Chain: Sendable {
    private let loop: EventLoop
    private let ended = Atomic(false)
    init(_ loop: EventLoop) { self.loop = loop }
    func next() {
        loop.perform { [self] in
            if !ended.load(ordering: .relaxed) { next() }
        }
    }
    func end() { ended.store(true, ordering: .relaxed) }
}
