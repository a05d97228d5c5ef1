/// A thread that does what it is given, one thing after another. What blocks is done here, never on the event loop.
package final class SerialWorker: Sendable {
    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var isBusy = false
    }

    private let state = Monitor(State())

    /// - Parameter name: at most 15 bytes count.
    /// - Throws: EAGAIN at the limit of threads.
    package init(named name: String) throws(LinuxError) {
        let state = state
        _ = try SystemThread(name: name) {
            while true {
                let job = state.wait { state in
                    state.isBusy = !state.jobs.isEmpty
                    return state.isBusy ? state.jobs.removeFirst() : nil
                }
                job()
            }
        }
    }

    /// Nothing runs or waits. It stays so only where all that is given comes from the thread that asks.
    package var isIdle: Bool { state.update(waking: .nobody) { !$0.isBusy && $0.jobs.isEmpty } }

    /// Returns at once; `job` runs after all that were given before.
    package func run(_ job: @escaping @Sendable () -> Void) {
        state.update { $0.jobs.append(job) }
    }
}
