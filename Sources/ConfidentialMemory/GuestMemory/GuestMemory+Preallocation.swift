public import KVM
internal import LinuxSystem
public import MemoryUnits
internal import Synchronization

/// Why pre-allocation stopped. What was allocated before stays allocated.
public enum PreallocationError: Error, Hashable, Sendable {
    case cancelled
    case refused(KVMError)
}

extension GuestMemory {
    /// Bytes that are allocated in one call: small enough to be cancelled between, large enough to cost nothing.
    public static var allocationStep: ByteCount { .mebibytes(16) }

    /// Gives the guest all its private memory at once, so that it cannot run short later. Shards are filled in parallel;
    /// pages that are there stay as they are.
    ///
    /// Who calls this makes sure before that there is room: where a control group's limit is hit the kernel kills, it does not
    /// refuse.
    /// - Parameters:
    ///   - threads: how many shards are filled at the same time, at least 1.
    ///   - progress: bytes that are there so far, one call at a time, from the threads that fill.
    public func preallocate(
        threads: Int, isCancelled: @escaping @Sendable () -> Bool = { false },
        progress: @escaping @Sendable (ByteCount) -> Void = { _ in }
    ) throws(PreallocationError) {
        let work = AllocationWork(shards: shards, isCancelled: isCancelled, progress: progress)
        inParallel(threads: min(threads, shards.count), name: "allocate") { work.run() }
        if let failure = work.failure { throw failure }
    }
}

private final class AllocationWork: Sendable {
    private struct State {
        var next = 0
        var done = ByteCount.zero
        var failure: PreallocationError?
    }

    private let shards: [GuestMemory.Shard]
    private let isCancelled: @Sendable () -> Bool
    private let progress: @Sendable (ByteCount) -> Void
    private let state = Mutex(State())

    init(
        shards: [GuestMemory.Shard], isCancelled: @escaping @Sendable () -> Bool,
        progress: @escaping @Sendable (ByteCount) -> Void
    ) {
        self.shards = shards
        self.isCancelled = isCancelled
        self.progress = progress
    }

    var failure: PreallocationError? { state.withLock { $0.failure } }

    func run() {
        while let shard = next() {
            var offset = ByteCount.zero
            while offset < shard.range.size, failure == nil {
                let step = FileRange(
                    offset: offset, length: min(GuestMemory.allocationStep, shard.range.size - offset))
                offset += step.length
                do {
                    guard !isCancelled() else { throw PreallocationError.cancelled }
                    try shard.file.allocate(step)
                    state.withLock { state in
                        state.done += step.length
                        progress(state.done)
                    }
                } catch {
                    let failure = (error as? KVMError).map { PreallocationError.refused($0) } ?? .cancelled
                    state.withLock { state in if state.failure == nil { state.failure = failure } }
                }
            }
        }
    }

    private func next() -> GuestMemory.Shard? {
        state.withLock { state in
            guard state.next < shards.count, state.failure == nil else { return nil }
            defer { state.next += 1 }
            return shards[state.next]
        }
    }
}

/// Runs `body` on so many threads, the calling one among them, and returns when all have ended. Where the system refuses
/// a thread, fewer do the work.
func inParallel(threads: Int, name: String, _ body: @escaping @Sendable () -> Void) {
    var helpers: [SystemThread] = []
    for number in 1..<max(threads, 1) {
        guard let helper = try? SystemThread(name: "\(name)-\(number)", body) else { break }
        helpers.append(helper)
    }
    body()
    for helper in helpers { helper.join() }
}
