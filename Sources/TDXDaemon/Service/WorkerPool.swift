internal import LinuxSystem
internal import Synchronization

/// Threads for work that blocks: one for each job up to a limit, further jobs wait their turn. A thread ends when no
/// job is left, so that an idle daemon has none.
final class WorkerPool: Sendable {
    typealias Job = @Sendable () -> Void

    private struct State {
        var running = 0
        var waiting: [Job] = []
    }

    private let name: String
    private let limit: Int
    private let state = Mutex(State())

    /// - Parameter name: of the threads, up to 15 bytes.
    init(name: String, limit: Int) {
        precondition(limit > 0, "a pool without threads does nothing")
        self.name = name
        self.limit = limit
    }

    /// Jobs that run or wait.
    var count: Int { state.withLock { $0.running + $0.waiting.count } }

    func submit(_ job: @escaping Job) {
        let startsThread = state.withLock { state in
            guard state.running < limit else {
                state.waiting.append(job)
                return false
            }
            state.running += 1
            return true
        }
        if startsThread { start(job) }
    }

    private func start(_ job: @escaping Job) {
        do throws(LinuxError) {
            _ = try SystemThread(name: name) { self.work(job) }
        } catch {
            // At the limit of threads: leave it to those that run, or, without any, do it here.
            let mustRunHere = state.withLock { state in
                state.running -= 1
                if state.running > 0 { state.waiting.append(job) }
                return state.running == 0
            }
            if mustRunHere { job() }
        }
    }

    private func work(_ first: Job) {
        first()
        while true {
            let next: Job? = state.withLock { state in
                if state.waiting.isEmpty {
                    state.running -= 1
                    return nil
                }
                return state.waiting.removeFirst()
            }
            guard let next else { return }
            next()
        }
    }
}
