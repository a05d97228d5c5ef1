internal import LinuxSystem
internal import Synchronization

/// Threads of tdxd that stay outside its fence, for looks into other processes.
///
/// A Landlock domain hides the descriptors and files of every process that is not inside it: of a holder that a former tdxd
/// started, and of whoever else may hold a TD's memory. Proofs need that look, so it is taken from threads that were started
/// before the fence was entered. They run nothing that a client says.
final class Lookout: Sendable {
    /// How many looks may be under way; further ones wait.
    static let lanes = 4

    private let workers: [SerialWorker]
    private let next = Atomic(0)

    /// Starts the threads: before the fence, and before anything else that starts one.
    /// - Throws: EAGAIN at the limit of threads.
    init() throws(LinuxError) {
        var made: [SerialWorker] = []
        for _ in 0..<Self.lanes { made.append(try SerialWorker(named: "lookout")) }
        workers = made
    }

    /// Does `look` on one of the threads and waits for it.
    func perform<Result: Sendable>(_ look: @escaping @Sendable () -> Result) -> Result {
        let seen = Monitor<Result?>(nil)
        let turn = next.wrappingAdd(1, ordering: .relaxed).oldValue
        workers[turn & (Self.lanes - 1)].run {
            let result = look()
            seen.update { $0 = result }
        }
        return seen.wait { $0 }
    }
}
