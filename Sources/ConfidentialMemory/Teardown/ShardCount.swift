internal import KVM
internal import MemoryUnits

/// Chunks of one file in which every page was present when they were counted.
struct FullChunks: Hashable, Sendable {
    private let chunk: ByteCount
    /// By the chunk's number in the file; what is beyond the end was not full.
    private var flags: [Bool] = []

    init(chunk: ByteCount) { self.chunk = chunk }

    mutating func insert(_ range: FileRange) {
        let number = Int(range.offset.rawValue / chunk.rawValue)
        if flags.count <= number { flags += repeatElement(false, count: number + 1 - flags.count) }
        flags[number] = true
    }

    /// Whether a range is, or lies in, a chunk that was full.
    func covers(_ range: FileRange) -> Bool {
        let number = Int(range.offset.rawValue / chunk.rawValue)
        let isInOne = range.offset.rawValue % chunk.rawValue + range.length.rawValue <= chunk.rawValue
        return isInOne && number < flags.count && flags[number]
    }
}

/// Which chunks were full, on either side.
struct FullSides: Hashable, Sendable {
    var `private`: FullChunks
    var shared: FullChunks
}

/// Goes over a file in chunks, and in longer steps through what is empty, where a look costs the same however far it goes.
struct ChunkWalk {
    private let size: ByteCount
    private let chunk: ByteCount
    private var offset = ByteCount.zero
    /// Empty chunks in a row.
    private var empty: UInt64 = 0

    init(size: ByteCount, chunk: ByteCount) {
        self.size = size
        self.chunk = chunk
    }

    /// What to look at next: a chunk, or several where a quarter as many as these were empty; nil at the end.
    var next: FileRange? {
        guard offset < size else { return nil }
        let chunks = max(1, empty / 4)
        return FileRange(offset: offset, length: min(ByteCount(chunk.rawValue * chunks), size - offset))
    }

    /// - Parameter isEmpty: whether nothing was found in `range`.
    /// - Returns: whether the walk has gone on; otherwise the first chunk of `range` comes next.
    mutating func looked(at range: FileRange, isEmpty: Bool) -> Bool {
        guard isEmpty || range.length <= chunk else {
            empty = 0
            return false
        }
        empty = isEmpty ? empty + max(1, range.length.rawValue / chunk.rawValue) : 0
        offset += range.length
        return true
    }
}

extension GuestMemory.Shard {
    /// What is present on both sides, by cachestat(2).
    func residency() throws(KVMError) -> Residency {
        let whole = FileRange(offset: .zero, length: range.size)
        var residency = Residency()
        residency.private = try file.residentBytes(whole)
        if let sharedFile { residency.shared = try sharedFile.residentBytes(whole) }
        return residency
    }

    /// As `residency`, and which chunks are full.
    func count(chunk: ByteCount) throws(KVMError) -> (resident: Residency, full: FullSides) {
        var resident = Residency()
        var full = FullSides(private: FullChunks(chunk: chunk), shared: FullChunks(chunk: chunk))
        resident.private = try count(file, chunk, &full.private)
        if let sharedFile { resident.shared = try count(sharedFile, chunk, &full.shared) }
        return (resident, full)
    }

    private func count(
        _ file: any BackingFile, _ chunk: ByteCount, _ full: inout FullChunks
    ) throws(KVMError) -> ByteCount {
        var sum = ByteCount.zero
        var walk = ChunkWalk(size: range.size, chunk: chunk)
        while let part = walk.next {
            let found = try file.residentBytes(part)
            guard walk.looked(at: part, isEmpty: found == .zero) else { continue }
            sum += found
            if found == part.length { full.insert(part) }
        }
        return sum
    }
}
