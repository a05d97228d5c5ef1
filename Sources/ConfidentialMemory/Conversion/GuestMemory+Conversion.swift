internal import KVM
internal import LinuxSystem
public import MemoryUnits
internal import Synchronization
internal import SystemPackage

extension GuestMemory {
    /// One transaction converts no more than this. The kernel's calls look at no signals, and punching 64 MiB of a live
    /// TD takes up to 0.9 s (reference: kvm.md §5.6).
    public static var maximumChunk: ByteCount { .mebibytes(64) }
    /// Chunks begin and end on such borders, so that no 2 MiB block is torn for longer than a chunk.
    public static var chunkAlignment: ByteCount { .mebibytes(2) }

    /// Moves a range to one side. Contents do not survive: what was resident on the old side is given back, and the
    /// next use of the new side finds zeroes.
    ///
    /// The range is cut into chunks, each a transaction: mark the pages as converting, change the kernel's attributes,
    /// discard the old side, settle. Only one conversion runs at a time; others wait.
    ///
    /// - Parameters:
    ///   - range: page aligned, inside memory; it may cross shards and regions that touch.
    ///   - chunk: bytes in one transaction, whole 2 MiB blocks, at most `maximumChunk`.
    ///   - origin: who asks; nil for what is not reported, as the first conversion of all memory.
    ///   - isCancelled: asked before each chunk.
    ///   - progress: called after each chunk.
    /// - Throws: `.invalid` for bad input; `.incomplete` with the exact end of what is done. Interrupted calls
    ///   (EINTR, EAGAIN) are made again up to `attempts` times before they count as refused.
    @discardableResult
    public func convert(
        _ range: GuestPhysicalRange, to side: MemorySide, chunk: ByteCount = maximumChunk,
        origin: ConversionOrigin? = .host, isCancelled: () -> Bool = { false },
        progress: (ConversionProgress) -> Void = { _ in }
    ) throws(ConversionError) -> ConversionResult {
        guard chunk > .zero, chunk <= Self.maximumChunk, chunk.rawValue % Self.chunkAlignment.rawValue == 0 else {
            throw .invalid(
                .invalid(
                    field: "chunk", value: "\(chunk)",
                    limit: "a multiple of \(Self.chunkAlignment), at most \(Self.maximumChunk)"))
        }
        do {
            _ = try validParts(range)
        } catch {
            throw .invalid(error)
        }
        let (result, failure) = conversionLock.withLock { _ in
            convertLocked(range, to: side, chunk: chunk, origin: origin, isCancelled: isCancelled, progress: progress)
        }
        if let failure { throw .incomplete(failure) }
        return result
    }

    /// As `convert`, for a thread that must not wait: only what is done at once is begun. That is a range of at most
    /// `guestChunk` of which nothing has to be given back, while no other conversion is under way and there is no listener.
    ///
    /// - Returns: nil where it is nothing for such a thread; nothing was changed then, and `convert` does it.
    /// - Throws: as `convert`.
    public func convertAtOnce(
        _ range: GuestPhysicalRange, to side: MemorySide, isCancelled: () -> Bool = { false }
    ) throws(ConversionError) -> ConversionResult? {
        let parts: [(shard: Shard, part: GuestPhysicalRange)]
        do {
            parts = try validParts(range)
        } catch {
            throw .invalid(error)
        }
        guard range.size <= Self.guestChunk else { return nil }
        let done = conversionLock.withLockIfAvailable { _ -> (ConversionResult, IncompleteConversion?)? in
            // Giving memory back is what takes its time: on hardware a page of a TD up to 60 µs.
            guard listeners.isEmpty, hasNothing(in: parts, toLeaveFor: side) else { return nil }
            return convertLocked(range, to: side, chunk: Self.guestChunk, origin: .host, isCancelled: isCancelled)
        }
        guard let (result, failure) = done ?? nil else { return nil }
        if let failure { throw .incomplete(failure) }
        return result
    }

    /// Whether the side that the pages would leave holds nothing of them. Where it cannot be counted: no.
    private func hasNothing(in parts: [(shard: Shard, part: GuestPhysicalRange)], toLeaveFor side: MemorySide) -> Bool {
        parts.allSatisfy { shard, part in
            (try? shard.leavingFile(for: side).residentBytes(shard.fileRange(part))) == ByteCount.zero
        }
    }

    /// Converts a valid range chunk by chunk and keeps the record of it. The caller holds `conversionLock`.
    func convertLocked(
        _ range: GuestPhysicalRange, to side: MemorySide, chunk: ByteCount, origin: ConversionOrigin?,
        requests: Int = 1,
        isCancelled: () -> Bool = { false }, progress: (ConversionProgress) -> Void = { _ in }
    ) -> (result: ConversionResult, failure: IncompleteConversion?) {
        let start = MonotonicInstant.now
        var result = ConversionResult()
        var failure: ChunkFailure?
        var position = range.start
        while position < range.end, failure == nil {
            let border = (position.rawValue / chunk.rawValue + 1) * chunk.rawValue
            let end = min(range.end, GuestPhysicalAddress(border))
            if isCancelled() {
                failure = ChunkFailure(end: position, reason: .cancelled)
            } else {
                let part = GuestPhysicalRange(start: position, size: end - position)
                failure = convertChunk(part, to: side, adding: &result)
                if failure == nil {
                    progress(ConversionProgress(result: result, settled: end - range.start, total: range.size))
                }
            }
            position = end
        }
        let incomplete = failure.map { failure in
            IncompleteConversion(
                range: range, side: side, end: failure.end, result: result, reason: failure.reason,
                leftover: failure.leftover)
        }
        if let origin {
            observer.note(
                ConversionRecord(
                    range: range, side: side, origin: origin, requests: requests, result: result, failure: incomplete,
                    start: start, end: .now))
        }
        return (result, incomplete)
    }

    /// How often an interrupted call is made before it counts as refused.
    public static var attempts: Int { 4 }

    struct ChunkFailure {
        var end: GuestPhysicalAddress
        var reason: IncompleteConversion.Reason
        var leftover: GuestPhysicalRange?
    }

    /// One transaction. On failure the pages in front of `end` are converted, the others as they were, and nothing is
    /// left converting.
    private func convertChunk(
        _ chunk: GuestPhysicalRange, to side: MemorySide, adding result: inout ConversionResult
    ) -> ChunkFailure? {
        let before = attributes.withLock { map in
            let pending = map.runs(in: chunk.frames).filter { $0.state != side.settled }
            var moves = PageMoves()
            for run in pending {
                map.set(run.frames, to: side.converting)
                moves.move(run.frames, from: run.state, to: side.converting)
            }
            publish(moves)
            return pending
        }
        guard !before.isEmpty else { return nil }
        if let error = setAttributes(chunk, to: side) {
            // The kernel fails before it changes anything, or the VM is dead.
            settle(before, from: chunk.start, to: side)
            return ChunkFailure(end: chunk.start, reason: .refused(error))
        }
        result.chunks += 1
        // Whoever else uses the old side lets go of it before it is discarded.
        listeners.tell(.leaving, chunk, side)
        for run in before {
            let range = run.frames.bytes
            // `range` was validated as part of the whole.
            for (shard, part) in parts(of: range) ?? [] {
                switch discard(part, of: shard, leaving: side) {
                case .success(let bytes):
                    result.discarded += bytes
                    result.changed += part.size
                case .failure(let error):
                    let failure = rollBack(before, of: chunk, from: part.start, to: side, because: error)
                    result.changed += pages(before, in: part.start..<failure.end).bytes
                    if failure.end < chunk.end {
                        let kept = GuestPhysicalRange(start: failure.end, size: chunk.end - failure.end)
                        listeners.tell(.settled, kept, side == .private ? .shared : .private)
                    }
                    return failure
                }
            }
        }
        settle(before, from: chunk.end, to: side)
        listeners.tell(.settled, chunk, side)
        return nil
    }

    /// The kernel's own book. In place there is none.
    private func setAttributes(_ range: GuestPhysicalRange, to side: MemorySide) -> KVMError? {
        guard sides == .apart else { return nil }
        return repeating { () throws(KVMError) in
            try machine.setMemoryAttributes(range, isPrivate: side == .private)
        }
    }

    /// Gives the side that the pages leave back to the host. In place it is what makes the next use find zeroes.
    private func discard(
        _ part: GuestPhysicalRange, of shard: Shard, leaving side: MemorySide
    ) -> Result<ByteCount, KVMError> {
        let range = shard.fileRange(part)
        let file = shard.leavingFile(for: side)
        // Punching pages that are mapped costs three times as much as dropping the mappings first.
        if side == .private || shard.sharedFile == nil {
            shard.mapping.dropMappings(offset: range.offset, length: range.length)
        }
        var resident = ByteCount.zero
        let error = repeating { () throws(KVMError) in
            resident = try file.countedBytes(range) ?? .zero
            try file.punchHole(range)
        }
        return error.map { .failure($0) } ?? .success(resident)
    }

    /// Puts the attributes from `start` on back to what they were, from the end of the chunk backwards, so that what
    /// cannot be put back is still one piece with the part that is done.
    private func rollBack(
        _ before: [PageRun], of chunk: GuestPhysicalRange, from start: GuestPhysicalAddress, to side: MemorySide,
        because error: KVMError
    ) -> ChunkFailure {
        var end = start
        for run in before.reversed() where run.frames.upperBound > start.frame {
            let first = max(run.frames.lowerBound, start.frame)
            let old: MemorySide = run.state == .private ? .private : .shared
            if setAttributes((first..<run.frames.upperBound).bytes, to: old) != nil {
                end = run.frames.upperBound.address
                break
            }
        }
        settle(before, from: end, to: side)
        let leftover = end > start ? GuestPhysicalRange(start: start, size: end - start) : nil
        return ChunkFailure(end: end, reason: .refused(error), leftover: leftover)
    }

    /// Ends the transition: the pages in front of `border` are on the new side, the others where they were.
    private func settle(_ before: [PageRun], from border: GuestPhysicalAddress, to side: MemorySide) {
        attributes.withLock { map in
            var moves = PageMoves()
            for run in before {
                let middle = min(max(border.frame, run.frames.lowerBound), run.frames.upperBound)
                let (done, kept) = (run.frames.lowerBound..<middle, middle..<run.frames.upperBound)
                if !done.isEmpty { map.set(done, to: side.settled) }
                if !kept.isEmpty { map.set(kept, to: run.state) }
                moves.move(done, from: side.converting, to: side.settled)
                moves.move(kept, from: side.converting, to: run.state)
            }
            publish(moves)
        }
    }

    /// Pages of the runs that lie in a range of addresses.
    func pages(_ runs: [PageRun], in addresses: Range<GuestPhysicalAddress>) -> PageCount {
        let frames = addresses.lowerBound.frame..<addresses.upperBound.frame
        return runs.reduce(.zero) { $0 + $1.frames.clamped(to: frames).pageCount }
    }

    /// Makes a call again while it is merely interrupted.
    private func repeating(_ call: () throws(KVMError) -> Void) -> KVMError? {
        var attempt = 1
        while true {
            do {
                try call()
                return nil
            } catch {
                let isTransient = error.errno == .interrupted || error.errno == .resourceTemporarilyUnavailable
                guard isTransient, attempt < Self.attempts else { return error }
                attempt += 1
            }
        }
    }
}

extension GuestMemory.Shard {
    /// What has the pages that move to `side`, until they do. In place it is the one file.
    func leavingFile(for side: MemorySide) -> any BackingFile {
        guard let sharedFile else { return file }
        return side == .private ? sharedFile : file
    }
}
