internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization

/// Gives the memory of a TD's duplicates back: bounded chunks, several files at a time.
///
/// Punching is exclusive per file, so files in parallel is what helps; within one file a chunk bounds how long a
/// punch that cannot be interrupted takes.
enum Reaper {
    struct Outcome: Hashable, Sendable {
        var releasedBytes: ByteCount = .zero
        var calls: UInt64 = 0
        var milliseconds: Double = 0
        /// The first error; other files are punched all the same.
        var failure: String?
    }

    static let defaultChunk = ByteCount.mebibytes(64)
    static let defaultLanes = 4

    /// Punches every file from its beginning to its end.
    ///
    /// - Parameters:
    ///   - total: bytes that are present, where the caller has counted them already.
    ///   - lanes: threads that work at most, the caller's own among them.
    ///   - progress: resident bytes given back so far, and in all; from any thread.
    static func release(
        _ backing: Backing, total: ByteCount? = nil, chunk: ByteCount = defaultChunk, lanes: Int = defaultLanes,
        progress: @escaping @Sendable (_ done: ByteCount, _ total: ByteCount) -> Void = { _, _ in }
    ) -> Outcome {
        precondition(chunk.isPageAligned && chunk > .zero, "a chunk is whole pages")
        let start = MonotonicInstant.now
        let present = total ?? backing.files.reduce(.zero) { $0 + ((try? $1.residentBytes()) ?? .zero) }
        let work = Work(files: backing.files, total: present, chunk: chunk, progress: progress)
        var threads: [SystemThread] = []
        // A thread that finds only empty files is done at once.
        for number in 1..<max(1, min(lanes, backing.files.count)) {
            // Without a thread the caller does the work alone.
            guard let thread = try? SystemThread(name: "release-\(number)", { work.run() }) else { break }
            threads.append(thread)
        }
        work.run()
        for thread in threads { thread.join() }
        var outcome = work.outcome.withLock { $0 }
        outcome.milliseconds = MonotonicInstant.now.milliseconds(since: start)
        return outcome
    }

    private final class Work: Sendable {
        let files: [Backing.File]
        let total: ByteCount
        let chunk: ByteCount
        let progress: @Sendable (ByteCount, ByteCount) -> Void
        let next = Atomic<Int>(0)
        let outcome = Mutex(Outcome())

        init(
            files: [Backing.File], total: ByteCount, chunk: ByteCount,
            progress: @escaping @Sendable (ByteCount, ByteCount) -> Void
        ) {
            self.files = files
            self.total = total
            self.chunk = chunk
            self.progress = progress
        }

        func run() {
            while true {
                let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard index < files.count else { return }
                do throws(LinuxError) {
                    try release(files[index])
                } catch {
                    outcome.withLock { $0.failure = $0.failure ?? "\(error)" }
                }
            }
        }

        private func release(_ file: Backing.File) throws(LinuxError) {
            var offset = ByteCount.zero
            while offset < file.size {
                let length = min(chunk, file.size - offset)
                let before = try file.residentBytes(offset: offset, length: length)
                if before > .zero {
                    try file.punchHole(offset: offset, length: length)
                    let after = try file.residentBytes(offset: offset, length: length)
                    let gained = before > after ? before - after : .zero
                    let done = outcome.withLock { outcome in
                        outcome.releasedBytes += gained
                        outcome.calls += 1
                        return outcome.releasedBytes
                    }
                    progress(done, total)
                }
                offset += length
            }
        }
    }
}
