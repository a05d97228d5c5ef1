/// A thread that does what it is given, one thing after another. What blocks is done here, never on the event loop.
package final class SerialWorker: Sendable {
    private let jobs = Monitor<[@Sendable () -> Void]>([])

    /// - Parameter name: at most 15 bytes count.
    /// - Throws: EAGAIN at the limit of threads.
    package init(named name: String) throws(LinuxError) {
        let jobs = jobs
        _ = try SystemThread(name: name) {
            while true {
                let job = jobs.wait { $0.isEmpty ? nil : $0.removeFirst() }
                job()
            }
        }
    }

    /// Returns at once; `job` runs after all that were given before.
    package func run(_ job: @escaping @Sendable () -> Void) {
        jobs.update { $0.append(job) }
    }
}
