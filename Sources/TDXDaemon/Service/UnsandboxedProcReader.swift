internal import LinuxSystem
internal import Synchronization

/// Threads of tdxd that stay outside its fence, for looks into other processes.
///
/// A Landlock domain hides the descriptors and files of every process that is not inside it: of a holder that a former tdxd
/// started, and of whoever else may hold a TD's memory. Proofs need that look, so it is taken from threads that were started
/// before the fence was entered. They run nothing that a client says.
///
/// A look through all processes takes as long as users make it, up to `InodeHolders.Patience`. One is under way at a time, on a
/// thread of its own, and the next one serves all that have asked meanwhile. The event loop never waits for a look.
final class UnsandboxedProcReader: Sendable {
    typealias Look = Result<(holders: InodeHolders, othersAreHidden: Bool), LinuxError>

    private struct Asking {
        var number: UInt64
        var files: Set<FileIdentity>
    }

    private struct State {
        var nextNumber: UInt64 = 1
        var isLooking = false
        var asking: [Asking] = []
        /// Key: who asked.
        var answers: [UInt64: Look] = [:]
    }

    /// For looks into one process.
    private let worker: SerialWorker
    /// For looks into all.
    private let searcher: SerialWorker
    private let state = Monitor(State())
    private let search: @Sendable (Set<FileIdentity>) -> Look

    /// Starts the threads: before the fence, and before anything else that starts one.
    /// - Parameter search: looks through all processes.
    /// - Throws: EAGAIN at the limit of threads.
    init(
        search: @escaping @Sendable (Set<FileIdentity>) -> Look = UnsandboxedProcReader.search
    ) throws(LinuxError) {
        worker = try SerialWorker(named: "procReader")
        searcher = try SerialWorker(named: "search")
        self.search = search
    }

    /// Looks through every process, now.
    static let search: @Sendable (Set<FileIdentity>) -> Look = { files in
        do throws(LinuxError) {
            return .success((try InodeHolders.find(files), ProcessVisibility.othersAreHidden()))
        } catch {
            return .failure(error)
        }
    }

    /// Does a short `look` on a thread outside the fence and waits for it. Not on the event loop.
    func perform<Result: Sendable>(_ look: @escaping @Sendable () -> Result) -> Result {
        let seen = Monitor<Result?>(nil)
        worker.run {
            let result = look()
            seen.update { $0 = result }
        }
        return seen.wait { $0 }
    }

    /// Who holds one of the files, from a look that began after this call did. Blocks for two looks at most; not on the event loop.
    func holders(of files: Set<FileIdentity>) -> Look {
        let (number, isFirst) = state.update(waking: .nobody) { state in
            let number = state.nextNumber
            state.nextNumber += 1
            state.asking.append(Asking(number: number, files: files))
            defer { state.isLooking = true }
            return (number, !state.isLooking)
        }
        if isFirst { searcher.run { [self] in searchForAll() } }
        return state.wait { $0.answers.removeValue(forKey: number) }
    }

    /// Looks once for all that have asked, and again as long as somebody has asked meanwhile.
    private func searchForAll() {
        while true {
            let asking = state.update(waking: .nobody) { state in
                defer { state.asking = [] }
                state.isLooking = !state.asking.isEmpty
                return state.asking
            }
            guard !asking.isEmpty else { return }
            let look = search(asking.reduce(into: []) { $0.formUnion($1.files) })
            state.update { state in
                for one in asking {
                    state.answers[one.number] = look.map { ($0.holders.holders(of: one.files), $0.othersAreHidden) }
                }
            }
        }
    }
}
