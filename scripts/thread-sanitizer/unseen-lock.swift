// unseen-lock guarded|unguarded: four threads add to a counter, each with the lock held or without it. With Swift's own Mutex
// alone Thread Sanitizer reports the first as well, although the sum is right every time: see mutex.c.
import Glibc
import Synchronization

enum Counters {
    static let guarded = Mutex(0)
    nonisolated(unsafe) static var unguarded = 0
    static let isGuarded = CommandLine.arguments.last == "guarded"
    static let rounds = 50_000

    static func add() {
        if isGuarded { guarded.withLock { $0 += 1 } } else { unguarded += 1 }
    }

    static func start() -> pthread_t {
        var thread = pthread_t()
        let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { _ in
            for _ in 0..<Counters.rounds { Counters.add() }
            return nil
        }
        pthread_create(&thread, nil, body, nil)
        return thread
    }
}

let threads = (0..<4).map { _ in Counters.start() }
for thread in threads { pthread_join(thread, nil) }
if Counters.isGuarded {
    let sum = Counters.guarded.withLock { $0 }
    guard sum == 4 * Counters.rounds else { fatalError("the mutex let two threads in: \(sum)") }
}
