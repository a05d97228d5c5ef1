internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes
internal import Terms

/// Gives shards back to the host, several at a time. Punching is exclusive per file, so a shard is one thread's.
final class ReleaseWork: Sendable {
    struct Outcome: Sendable {
        var released: ByteCount = .zero
        /// Still present at the end; nil where it could not be read.
        var remaining: ByteCount? = .zero
        var calls = 0
        var failures: [EndFailure] = []
        /// A page could not be taken from the TD: nothing was punched from then on.
        var hasFailedRemoval: Bool { failures.contains { $0.kind == .removalFailed } }

        mutating func note(_ removal: RemovalFailure, _ text: String) {
            guard !hasFailedRemoval else { return }
            failures.note(EndFailure(.removalFailed, status: removal.status?.hexadecimal, "release: " + text))
        }
    }

    private struct State {
        var next = 0
        var outcome = Outcome()
    }

    struct Item: Sendable {
        var shard: GuestMemory.Shard
        /// The chunks that were full when nothing could be converted any more; nil where it was not measured.
        var full: FullSides?
    }

    private let items: [Item]
    private let chunk: ByteCount
    private let pace: ReleasePace
    private let watch: RemovalWatch
    private let state = Mutex(State())
    private let report: @Sendable (ByteCount) -> Void

    /// - Parameter report: hears the sum of bytes released, one call at a time.
    init(
        _ items: [Item], chunk: ByteCount, pace: ReleasePace, watch: RemovalWatch,
        report: @escaping @Sendable (ByteCount) -> Void
    ) {
        self.items = items
        self.chunk = chunk
        self.pace = pace
        self.watch = watch
        self.report = report
    }

    var outcome: Outcome { state.withLock { $0.outcome } }

    /// Blocks until every shard was tried, or a page could not be taken from the TD: what is left then is left as it is,
    /// since the kernel would free what the module may still own. The calling thread works too, so that memory comes back
    /// even where no thread can be started.
    func run(threads: Int) {
        // It may have been met when the key id was released.
        if let removal = watch.failure() {
            state.withLock { $0.outcome.note(removal, "\(removal.reason); no memory was touched") }
        }
        inParallel(threads: threads, name: "release") { self.work() }
    }

    private func work() {
        while true {
            let item: Item? = state.withLock { state in
                guard state.next < items.count else { return nil }
                defer { state.next += 1 }
                return items[state.next]
            }
            guard let item else { return }
            release(item)
        }
    }

    private func release(_ item: Item) {
        let shard = item.shard
        defer { count(shard) }
        guard !hasFailed else { return }
        // A punch of pages that are mapped costs three times as much, and a mapping would keep the file and the VM.
        shard.mapping.dropMappings(offset: .zero, length: shard.range.size)
        shard.mapping.unmap()
        state.withLock { $0.outcome.calls += 2 }
        punch(shard.file, shard, full: item.full?.private)
        if let sharedFile = shard.sharedFile { punch(sharedFile, shard, full: item.full?.shared) }
    }

    private func count(_ shard: GuestMemory.Shard) {
        let left = try? shard.residency()
        state.withLock { state in
            guard let left, let sum = state.outcome.remaining else {
                state.outcome.remaining = nil
                return
            }
            state.outcome.remaining = sum + left.total
        }
    }

    /// - Parameter full: chunks that are known to be present: their bytes need not be counted again, which would cost a
    ///   tenth of what punching them does. Every other chunk is counted right before its punch.
    private func punch(_ file: any BackingFile, _ shard: GuestMemory.Shard, full: FullChunks?) {
        var walk = ChunkWalk(size: shard.range.size, chunk: chunk)
        while let range = walk.next {
            do {
                // Nil where it cannot be counted: it is released all the same, and its amount stays unknown.
                let resident = full?.covers(range) == true ? range.length : try? file.countedBytes(range)
                // An empty stretch is left alone in one step; a long one that is not empty is taken by chunks.
                guard walk.looked(at: range, isEmpty: resident == .zero), resident != .zero else { continue }
                pace.admit(resident ?? range.length) { state.withLock { report($0.outcome.released) } }
                guard !hasFailed else { return }
                try file.punchHole(range)
                let removal = watch.failure()
                state.withLock { state in
                    state.outcome.calls += 1
                    state.outcome.released += resident ?? .zero
                    report(state.outcome.released)
                    if let removal {
                        state.outcome.note(
                            removal,
                            "\(place(of: range, in: shard)): \(removal.reason); the kernel has freed the pages of this punch "
                                + "all the same, and nothing was punched from then on")
                    }
                }
                if removal != nil { return }
            } catch {
                let failure = EndFailure(.punchRefused, "release: \(place(of: range, in: shard)): \(error)")
                state.withLock { $0.outcome.failures.note(failure) }
            }
        }
    }

    private var hasFailed: Bool { state.withLock { $0.outcome.hasFailedRemoval } }

    private func place(of range: FileRange, in shard: GuestMemory.Shard) -> GuestPhysicalRange {
        GuestPhysicalRange(start: shard.range.start + range.offset, size: range.length)
    }
}
