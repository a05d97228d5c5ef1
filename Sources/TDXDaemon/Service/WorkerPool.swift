internal import LinuxSystem

/// Threads for work that blocks: one for each job up to a limit, further jobs wait their turn. A thread that finds no job
/// stays for a moment, since making one takes longer than many a job does; an idle daemon has none.
final class WorkerPool: Sendable {
    typealias Job = @Sendable () -> Void

    private struct State {
        var threads = 0
        /// Of the threads, those that wait for a job.
        var idle = 0
        var waiting: [Job] = []
    }

    /// How long a thread stays without a job.
    static let linger = 5_000

    private let name: String
    private let limit: Int
    private let lingerMilliseconds: Int
    private let state = Monitor(State())

    /// - Parameters:
    ///   - name: of the threads, up to 15 bytes.
    ///   - lingerMilliseconds: how long a thread stays without a job.
    init(name: String, limit: Int, lingerMilliseconds: Int = WorkerPool.linger) {
        precondition(limit > 0, "a pool without threads does nothing")
        self.name = name
        self.limit = limit
        self.lingerMilliseconds = lingerMilliseconds
    }

    /// Jobs that run or wait.
    var count: Int { state.update(waking: .nobody) { $0.threads - $0.idle + $0.waiting.count } }

    /// Threads that there are.
    var threads: Int { state.update(waking: .nobody) { $0.threads } }

    func submit(_ job: @escaping Job) {
        let startsThread = state.update(waking: .one) { state in
            state.waiting.append(job)
            // Each idle thread takes one of those that wait.
            guard state.waiting.count > state.idle, state.threads < limit else { return false }
            state.threads += 1
            return true
        }
        if startsThread { start() }
    }

    private func start() {
        do throws(LinuxError) {
            _ = try SystemThread(name: name) { self.work() }
        } catch {
            // At the limit of threads: leave it to those that run, or, without any, do it here.
            let left: [Job] = state.update(waking: .nobody) { state in
                state.threads -= 1
                guard state.threads == 0 else { return [] }
                defer { state.waiting = [] }
                return state.waiting
            }
            for job in left { job() }
        }
    }

    private func work() {
        while let job = next() { job() }
    }

    /// The next job; nil when there was none for a while, and the thread is no longer counted.
    private func next() -> Job? {
        state.update(waking: .nobody) { $0.idle += 1 }
        let job: Job? = state.wait(milliseconds: lingerMilliseconds) { state in
            guard !state.waiting.isEmpty else { return nil }
            state.idle -= 1
            return state.waiting.removeFirst()
        }
        guard job == nil else { return job }
        // One may have come since.
        return state.update(waking: .nobody) { state in
            state.idle -= 1
            guard state.waiting.isEmpty else { return state.waiting.removeFirst() }
            state.threads -= 1
            return nil
        }
    }
}
