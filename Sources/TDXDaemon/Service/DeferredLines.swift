internal import LinuxSystem
internal import Synchronization

/// Log lines of what happens often: put down at once, and written a moment later by a worker, since the journal may keep whoever
/// writes to it, and waking a thread up for each would cost a conversion more than the conversion itself.
final class DeferredLines: Sendable {
    typealias Line = @Sendable () -> Void

    /// How long a line may wait for others.
    static let delay = Duration.milliseconds(50)

    private struct State {
        var lines: [Line] = []
        /// A thread will come for the lines, or writes some.
        var isUnderWay = false
    }

    private let loop: EventLoop
    private let workers: WorkerPool
    private let state = Mutex(State())

    init(_ loop: EventLoop, _ workers: WorkerPool) {
        self.loop = loop
        self.workers = workers
    }

    /// Not all lines are written yet.
    var isUnderWay: Bool { state.withLock { $0.isUnderWay } }

    /// Writes `line` soon, after those before it. From any thread.
    func add(_ line: @escaping Line) {
        let isFirst = state.withLock { state in
            state.lines.append(line)
            defer { state.isUnderWay = true }
            return !state.isUnderWay
        }
        if isFirst { writeSoon() }
    }

    private func writeSoon() {
        loop.perform { [self] in
            loop.schedule(after: Self.delay) { [self] in workers.submit { [self] in write() } }
        }
    }

    private func write() {
        let lines = state.withLock { state in
            defer { state.lines = [] }
            return state.lines
        }
        for line in lines { line() }
        let isMore = state.withLock { state in
            state.isUnderWay = !state.lines.isEmpty
            return state.isUnderWay
        }
        if isMore { writeSoon() }
    }
}
