/// A thread that does what it is given, one thing after another. What blocks is done here, never on the event loop.
final class SerialWorker: Sendable {
    private struct Queue {
        var jobs: [@Sendable () -> Void] = []
    }
    private let queue = Monitor(Queue())

    /// - Parameter name: at most 15 bytes count.
    init(named name: String) {
        let queue = queue
        startThread(named: name) {
            while true {
                let job = queue.wait { $0.jobs.isEmpty ? nil : $0.jobs.removeFirst() }
                job()
            }
        }
    }

    /// Returns at once; `job` runs after all that were given before.
    func run(_ job: @escaping @Sendable () -> Void) {
        queue.update { $0.jobs.append(job) }
    }
}
