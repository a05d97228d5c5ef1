public import KVM
public import LinuxSystem
public import MemoryUnits
internal import Synchronization
internal import SystemPackage

/// Where a guest page's two sides are kept.
public enum MemorySides: Hashable, Sendable {
    /// Private pages in guest_memfd, shared pages in a memfd that is mapped here. KVM keeps the attributes.
    case apart
    /// One guest_memfd, which the host can map, serves both; the attributes are this process's own book. For VMs whose
    /// type has no private memory.
    case inPlace
}

/// A guest's memory: its backing files, memslots and page attributes.
///
/// Nothing is pinned: beside the files themselves there is only the mapping of the shared side, which is dropped before
/// any file is released. All calls may block; they may come from several threads.
public final class GuestMemory: Sendable {
    /// One part of guest memory with files of its own. Its index is its memslot's id.
    struct Shard: Sendable {
        let range: GuestPhysicalRange
        let slot: UInt32
        /// The guest_memfd.
        let file: any BackingFile
        /// The memfd of the shared side; nil in place.
        let sharedFile: (any BackingFile)?
        /// The shared side as this process sees it.
        let mapping: any MappedMemory

        /// Where a range of the guest, which lies in the shard, is in the files and the mapping.
        func fileRange(_ part: GuestPhysicalRange) -> FileRange {
            FileRange(offset: part.start - range.start, length: part.size)
        }
    }

    public let sides: MemorySides
    let machine: any KVMVirtualMachine
    let shards: [Shard]
    let attributes = Mutex(PageAttributeMap())
    /// Where the counts are published after every change; under the attributes' lock.
    let publication = Mutex<PublishedCounts?>(nil)
    /// Held by the one conversion under way.
    let conversionLock = Mutex(())
    /// Requests that wait for the lock and may be merged.
    let requests = Mutex<[ConversionRequest]>([])
    /// Where memory was to come from and whether it does; nil without a request.
    public let placement: PlacementReport?
    /// What is remembered of conversions.
    public let observer: ConversionObserver
    /// Others who use the guest's memory, such as a device, and must follow conversions.
    public let listeners = ConversionListeners()

    /// RAM and firmware: what the shards span.
    public var size: ByteCount { shards.reduce(.zero) { $0 + $1.range.size } }
    /// The guest-physical ranges of the shards, in ascending order.
    public var shardRanges: [GuestPhysicalRange] { shards.map(\.range) }

    private init(
        sides: MemorySides, machine: any KVMVirtualMachine, shards: [Shard], placement: PlacementReport?,
        observer: ConversionObserver
    ) {
        self.sides = sides
        self.machine = machine
        self.shards = shards
        self.placement = placement
        self.observer = observer
    }

    // MARK: Making

    /// Creates the backing files, maps the shared side and registers the memslots. All memory is shared at first.
    /// - Parameters:
    ///   - name: shows in /proc as part of the files' names; up to 200 bytes.
    ///   - placement: on which NUMA nodes; nil for wherever the allocating thread is.
    ///   - observer: hears of every conversion; of this memory alone.
    /// - Throws: the kernel's refusal. Every file, mapping and slot made before is gone again.
    public static func make(
        in machine: any KVMVirtualMachine, host: any MemoryHost, plan: ShardPlan, sides: MemorySides, name: String,
        placement: MemoryPlacement? = nil, observer: ConversionObserver = ConversionObserver()
    ) throws(KVMError) -> GuestMemory {
        var shards: [Shard] = []
        let placed: PlacementReport?
        do {
            for (index, part) in plan.shards.enumerated() {
                let shard = try makeShard(
                    part.range, slot: UInt32(index), in: machine, host: host, sides: sides, name: "\(name).\(index)")
                shards.append(shard)
            }
            placed = try placement.map { wanted throws(KVMError) in try place(shards, wanted) }
        } catch {
            for shard in shards.reversed() {
                // The slot's own undoing has no better remedy than going on; closing the VM takes it along.
                try? machine.deleteMemorySlot(shard.slot)
                release(shard)
            }
            throw error
        }
        return GuestMemory(sides: sides, machine: machine, shards: shards, placement: placed, observer: observer)
    }

    private static func makeShard(
        _ range: GuestPhysicalRange, slot: UInt32, in machine: any KVMVirtualMachine, host: any MemoryHost,
        sides: MemorySides, name: String
    ) throws(KVMError) -> Shard {
        let whole = FileRange(offset: .zero, length: range.size)
        let file = try machine.createGuestMemory(
            size: range.size, flags: sides == .inPlace ? [.mmap, .initShared] : [])
        var sharedFile: (any BackingFile)?
        var mapping: (any MappedMemory)?
        do {
            if sides == .apart { sharedFile = try host.createSharedFile(name: name, size: range.size) }
            let mapped = try (sharedFile ?? file).map(whole)
            mapping = mapped
            try machine.setMemorySlot(
                MemorySlot(
                    id: slot, range: range, userspaceAddress: UInt(bitPattern: mapped.baseAddress), guestMemory: file))
            return Shard(range: range, slot: slot, file: file, sharedFile: sharedFile, mapping: mapped)
        } catch {
            mapping?.unmap()
            sharedFile?.close()
            file.close()
            throw error
        }
    }

    private static func release(_ shard: Shard) {
        shard.mapping.unmap()
        shard.sharedFile?.close()
        shard.file.close()
    }

    /// Unmaps and closes everything. A second call does nothing.
    func close() {
        for shard in shards { Self.release(shard) }
    }

    // MARK: Finding

    /// The parts of shards that a range is made of, in order; nil where a page of it has no memory.
    func parts(of range: GuestPhysicalRange) -> [(shard: Shard, part: GuestPhysicalRange)]? {
        var parts: [(shard: Shard, part: GuestPhysicalRange)] = []
        var position = range.start
        for shard in shards where position < range.end {
            guard let part = shard.range.intersection(range) else { continue }
            guard part.start == position else { return nil }
            parts.append((shard, part))
            position = part.end
        }
        return position >= range.end ? parts : nil
    }

    /// Where the host sees the shared side of a range; nil where it is not in one shard. What is private there reads as
    /// whatever the shared side holds, never as the guest's private contents.
    public func hostView(of range: GuestPhysicalRange) -> UnsafeMutableRawBufferPointer? {
        guard let shard = shards.first(where: { $0.range.contains(range) }) else { return nil }
        let offset = Int((range.start - shard.range.start).rawValue)
        return UnsafeMutableRawBufferPointer(
            start: shard.mapping.baseAddress + offset, count: Int(range.size.rawValue))
    }

    // MARK: Looking

    /// The runs of all memory, in order; holes are left out.
    public func runs() -> [PageRun] { numberedRuns().runs }

    /// The same, and the number of the last change that they have in them.
    public func numberedRuns() -> (runs: [PageRun], sequence: UInt64) {
        attributes.withLock { map in
            var runs: [PageRun] = []
            for shard in shards {
                map.forEachRun(in: shard.range.frames) { run in
                    if let last = runs.last, last.state == run.state,
                        last.frames.upperBound == run.frames.lowerBound
                    {
                        runs[runs.count - 1].frames = last.frames.lowerBound..<run.frames.upperBound
                    } else {
                        runs.append(run)
                    }
                    return true
                }
            }
            return (runs, map.sequence)
        }
    }

    /// Pages of all memory by state; holes are left out.
    public func counts() -> PageStateCounts {
        attributes.withLock { map in counts(map) }
    }

    private func counts(_ map: borrowing PageAttributeMap) -> PageStateCounts {
        var sum = SIMD4<UInt64>.zero
        for shard in shards { sum &+= map.counts(in: shard.range.frames).pages }
        return PageStateCounts(sum)
    }

    /// Where the counts, by state in the order of `PageState`, can be read by other processes as they are after every
    /// change. The same for everybody.
    public func publishedCounts() throws(LinuxError) -> PublishedFigures {
        if let present = publication.withLock({ $0?.figures }) { return present }
        let figures = try PublishedFigures(name: "tdxd.page-counts")
        return attributes.withLock { map in
            let counts = counts(map)
            return publication.withLock { publication in
                // Another thread may have come first.
                let kept = publication ?? PublishedCounts(figures, counts)
                publication = kept
                return kept.figures
            }
        }
    }

    /// The attributes were changed; they are still locked.
    func publish(_ moves: PageMoves) { publication.withLock { $0?.add(moves) } }

    /// The attributes as they are now.
    public func snapshot() -> PageAttributeSnapshot { attributes.withLock { $0.snapshot() } }

    /// What changed since a reader last looked.
    public func changes(since sequence: UInt64) -> PageChanges { attributes.withLock { $0.changes(since: sequence) } }

    /// The pages that the host has given to the guest, by cachestat(2) over every file.
    public func residency() throws(KVMError) -> Residency {
        var sum = Residency()
        for shard in shards {
            let whole = FileRange(offset: .zero, length: shard.range.size)
            sum.private += try shard.file.residentBytes(whole)
            if let sharedFile = shard.sharedFile { sum.shared += try sharedFile.residentBytes(whole) }
        }
        return sum
    }

    /// As `residency()`, of a range that lies in memory.
    public func residency(of range: GuestPhysicalRange) throws(GuestMemoryError) -> Residency {
        let parts = try validParts(range)
        var sum = Residency()
        do {
            for (shard, part) in parts {
                sum.private += try shard.file.residentBytes(shard.fileRange(part))
                if let sharedFile = shard.sharedFile {
                    sum.shared += try sharedFile.residentBytes(shard.fileRange(part))
                }
            }
        } catch {
            throw .refused(error)
        }
        return sum
    }

    /// Checks a range that a client named and finds its parts.
    func validParts(
        _ range: GuestPhysicalRange
    ) throws(GuestMemoryError) -> [(shard: Shard, part: GuestPhysicalRange)] {
        guard range.start.isPageAligned else {
            throw .invalid(field: "gpa", value: "\(range.start)", limit: "a multiple of 4,096")
        }
        guard range.size > .zero, range.size.isPageAligned else {
            throw .invalid(field: "size", value: "\(range.size)", limit: "a multiple of 4,096 and not 0")
        }
        guard let parts = parts(of: range) else {
            throw .invalid(
                field: "gpa", value: "\(range)", limit: "inside the guest's memory: \(memoryDescription)")
        }
        return parts
    }

    /// "0x0–0x80000000 (2 GiB), …": the shards, joined where they touch.
    private var memoryDescription: String {
        var ranges: [GuestPhysicalRange] = []
        for shard in shards {
            if let last = ranges.last, last.end == shard.range.start {
                ranges[ranges.count - 1] = GuestPhysicalRange(start: last.start, size: last.size + shard.range.size)
            } else {
                ranges.append(shard.range)
            }
        }
        return ranges.map(\.description).joined(separator: ", ")
    }
}

/// Bytes present in the backing files, by cachestat(2).
public struct Residency: Hashable, Sendable {
    /// In guest_memfd. In place this is all there is.
    public var `private`: ByteCount = .zero
    /// In the shared side's own files.
    public var shared: ByteCount = .zero

    public init() {}
    public var total: ByteCount { `private` + shared }
}
