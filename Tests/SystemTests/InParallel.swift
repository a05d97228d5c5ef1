import LinuxSystem
import Synchronization

/// Runs `body` on that many threads at once; gives what each returned, in order.
func inParallel<Result: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) -> Result) -> [Result] {
    let results = Gathered<Result>(count)
    let threads = (0..<count).map { index in
        try! SystemThread(name: "client-\(index)") { results.set(index, body(index)) }
    }
    for thread in threads { thread.join() }
    return results.all
}

private final class Gathered<Value: Sendable>: Sendable {
    private let values: Mutex<[Value?]>

    init(_ count: Int) { values = Mutex(Array(repeating: nil, count: count)) }

    func set(_ index: Int, _ value: Value) { values.withLock { $0[index] = value } }

    var all: [Value] { values.withLock { $0.compactMap { $0 } } }
}
