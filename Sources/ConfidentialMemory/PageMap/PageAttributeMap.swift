public import MemoryUnits

/// Which pages of one guest are private, shared or on their way, over 16 TiB of guest-physical space.
///
/// KVM keeps the same knowledge but has no call to read it (reference: kvm.md §3), so this map is the only place where
/// a VMM can look. It is adaptive: a uniform GiB costs 8 bytes, a uniform 2 MiB 2 bytes, and a fragmented 2 MiB 128
/// bytes; the worst case is 2.01 bits a page. Nothing is allocated per page.
///
/// A value with one owner. Guard it by a lock to share it, or hand out snapshots, which cost a reference a GiB.
public struct PageAttributeMap: ~Copyable, @unchecked Sendable {
    // Sendable is sound: the storage is reached through this value alone, and nodes shared with snapshots are counted
    // atomically and copied before they are written.

    /// The pages that the map speaks of: 2^32, which is 16 TiB.
    public static let space = GuestFrameNumber(0)..<GuestFrameNumber(1 << 32)

    @usableFromInline var directory: AttributeDirectory
    private var capacity: Int
    private var log: ChangeLog

    /// An empty map: everything is shared.
    /// - Parameter changeCapacity: how many changes are kept for readers that follow, at least 1.
    public init(changeCapacity: Int = 4096) {
        directory = AttributeDirectory(capacity: 0)
        capacity = 1
        log = ChangeLog(capacity: changeCapacity)
    }

    deinit {
        directory.destroy()
        log.destroy()
    }

    // MARK: Looking

    /// The state of one page.
    /// - Precondition: the page lies in `space`.
    /// - Complexity: O(1).
    @inlinable
    public subscript(frame: GuestFrameNumber) -> PageState {
        directory.state(frame.rawValue)
    }

    /// Hands over the maximal runs of a range, in order, until `body` answers false.
    /// - Complexity: O(GiBs + leaves of nodes + runs).
    @inlinable
    public borrowing func forEachRun(in frames: Range<GuestFrameNumber>, _ body: (PageRun) -> Bool) {
        precondition(Self.holds(frames), "a range exceeds 16 TiB")
        directory.forEachRun(frames.lowerBound.rawValue, frames.upperBound.rawValue) { start, end, state in
            body(PageRun(GuestFrameNumber(start)..<GuestFrameNumber(end), state))
        }
    }

    /// The maximal runs of a range, in order.
    public borrowing func runs(in frames: Range<GuestFrameNumber>) -> [PageRun] {
        var runs: [PageRun] = []
        forEachRun(in: frames) { run in
            runs.append(run)
            return true
        }
        return runs
    }

    /// Pages of a range by state.
    /// - Complexity: O(GiBs + leaves at the two ends).
    @inlinable
    public borrowing func counts(in frames: Range<GuestFrameNumber>) -> PageStateCounts {
        precondition(Self.holds(frames), "a range exceeds 16 TiB")
        let first = frames.lowerBound.rawValue
        if Int(truncatingIfNeeded: first &>> 18) >= directory.count {
            // What is not there yet is shared.
            return PageStateCounts(SIMD4(frames.upperBound.rawValue &- first, 0, 0, 0))
        }
        return PageStateCounts(directory.counts(frames.lowerBound.rawValue, frames.upperBound.rawValue))
    }

    /// The first page of a range that is in `state`; nil when there is none.
    public borrowing func next(_ state: PageState, in frames: Range<GuestFrameNumber>) -> GuestFrameNumber? {
        precondition(Self.holds(frames), "a range exceeds 16 TiB")
        return directory.next(state, frames.lowerBound.rawValue, frames.upperBound.rawValue).map {
            GuestFrameNumber($0)
        }
    }

    @inlinable
    static func holds(_ frames: Range<GuestFrameNumber>) -> Bool { frames.upperBound <= space.upperBound }

    // MARK: Changing

    /// Sets every page of a range and returns how many were in another state. A call that changes something takes the
    /// next sequence number.
    /// - Complexity: O(GiBs + leaves at the two ends), plus the copy of at most 66 KiB for each GiB that a snapshot shares.
    @discardableResult
    public mutating func set(_ frames: Range<GuestFrameNumber>, to state: PageState) -> PageCount {
        if let changed = setOne(frames, to: state) { return changed }
        precondition(Self.holds(frames), "a range exceeds 16 TiB")
        var changed: UInt64 = 0
        var page = frames.lowerBound.rawValue
        let end = frames.upperBound.rawValue
        while page < end {
            let number = Int(page >> 18)
            if number >= directory.count {
                // What is not there yet is shared.
                guard state != .shared else { break }
                grow(to: Int((end - 1) >> 18) + 1)
            }
            let stop = min(end, (page | 0x3_ffff) + 1)
            changed += set(node: number, page, stop, to: state)
            page = stop
        }
        if changed > 0 { log.append(PageRun(frames, state)) }
        return PageCount(changed)
    }

    /// The short way for one page of a node that only this map holds; nil where it does not lead anywhere.
    @inline(__always)
    private mutating func setOne(_ frames: Range<GuestFrameNumber>, to state: PageState) -> PageCount? {
        let page = frames.lowerBound.rawValue
        guard frames.upperBound.rawValue &- page == 1 else { return nil }
        let number = Int(truncatingIfNeeded: page &>> 18)
        let entry = directory.entry(number)
        guard entry >= 4 else { return nil }
        let node = AttributeNode(entry)
        guard !state.isConverting, !node.isMixed, node.isUnique, !node.mustWiden(for: state) else { return nil }
        let changed = node.set(Int(truncatingIfNeeded: page & 0x3_ffff), settled: state)
        log.append(PageRun(frames, state), count: changed)
        if node.isUniform(state) {
            directory.entries[number] = UInt(state.rawValue)
            node.release()
        }
        return PageCount(changed)
    }

    private mutating func set(node number: Int, _ page: UInt64, _ end: UInt64, to state: PageState) -> UInt64 {
        let entry = directory.entries[number]
        let pages = UInt64(MapGeometry.pagesPerNode)
        let tag = UInt(state.rawValue)
        guard entry != tag else { return 0 }
        if end - page == pages {
            directory.entries[number] = tag
            guard entry >= 4 else { return pages }
            let node = AttributeNode(entry)
            let same = UInt64(node.pages(in: state))
            node.release()
            return pages - same
        }
        let node = writableNode(number, for: state)
        let base = page & ~UInt64(0x3_ffff)
        let changed = UInt64(node.set(Int(page - base), Int(end - base), to: state))
        if node.isUniform(state) {
            directory.entries[number] = tag
            node.release()
        } else if node.shape != .sparse, end - page >= Self.worthThinning, let thinner = node.thinned() {
            directory.entries[number] = thinner.bits
            node.release()
        } else if node.isMixed, !node.isConverting {
            directory.entries[number] = node.settled().bits
        }
        return changed
    }

    /// A change of so many pages is followed by a look whether the node can take a smaller shape, which takes as long
    /// as the change itself.
    private static let worthThinning: UInt64 = 64 * 512

    /// The node of a GiB, made, copied or widened as a change of one range in it needs.
    private mutating func writableNode(_ number: Int, for state: PageState) -> AttributeNode {
        let entry = directory.entries[number]
        let node: AttributeNode
        if entry < 4 {
            node = .make(uniform: PageState(bits: entry))
        } else if AttributeNode(entry).mustWiden(for: state) {
            node = AttributeNode(entry).widened(for: state)
        } else if !AttributeNode(entry).isUnique {
            node = AttributeNode(entry).copy()
            AttributeNode(entry).release()
        } else {
            return AttributeNode(entry)
        }
        directory.entries[number] = node.bits
        return node
    }

    private mutating func grow(to count: Int) {
        if count > capacity {
            while capacity < count { capacity *= 2 }
            var larger = AttributeDirectory(capacity: capacity)
            larger.entries.update(from: directory.entries, count: directory.count)
            larger.count = directory.count
            directory.entries.deallocate()
            directory = larger
        }
        directory.count = count
    }

    // MARK: Following

    /// The number of the last change; 0 before the first.
    public var sequence: UInt64 { log.last }

    /// The changes after `sequence`, oldest first, each with its own number. Applied in order to a copy as of
    /// `sequence` they make it equal to the map.
    public borrowing func changes(since sequence: UInt64) -> PageChanges { log.changes(since: sequence) }

    /// The map as it is now, unaffected by later changes.
    /// - Complexity: O(GiBs).
    public borrowing func snapshot() -> PageAttributeSnapshot {
        PageAttributeSnapshot(taking: directory.share(), sequence: log.last)
    }

    /// Heap bytes of the map itself, nodes shared with snapshots included, the change stream not.
    public var storageSize: ByteCount {
        var bytes = capacity * MemoryLayout<UInt>.stride
        for index in 0..<directory.count where directory.entries[index] >= 4 {
            bytes += AttributeNode(directory.entries[index]).storageBytes
        }
        return ByteCount(UInt64(bytes))
    }
}
