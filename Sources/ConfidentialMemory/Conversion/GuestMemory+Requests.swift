internal import KVM
public import MemoryUnits
internal import Synchronization

/// One waiting request.
final class ConversionRequest: Sendable {
    let range: GuestPhysicalRange
    let side: MemorySide
    /// Nil until it was served.
    let outcome = Mutex<Result<ConversionResult, ConversionError>?>(nil)

    init(_ range: GuestPhysicalRange, _ side: MemorySide) {
        self.range = range
        self.side = side
    }
}

extension GuestMemory {
    /// Chunks of what a guest asks for: the most that KVM asks for at once on a TD's behalf, so that other vCPUs'
    /// requests and signals come in between.
    public static var guestChunk: ByteCount { .mebibytes(2) }

    /// As `convert`, for small requests that come from many vCPUs at once: those that wait while another conversion
    /// runs are merged where they touch and served together by whoever comes first.
    ///
    /// - Throws: as `convert`, with what is done of this request's own range. `.cancelled` when `isCancelled` returns true
    ///   to whoever serves.
    public func convertMerging(
        _ range: GuestPhysicalRange, to side: MemorySide, isCancelled: () -> Bool = { false }
    ) throws(ConversionError) -> ConversionResult {
        do {
            _ = try validParts(range)
        } catch {
            throw .invalid(error)
        }
        let request = ConversionRequest(range, side)
        requests.withLock { $0.append(request) }
        conversionLock.withLock { _ in
            guard request.outcome.withLock({ $0 == nil }) else { return }
            let waiting = requests.withLock { waiting in
                defer { waiting = [] }
                return waiting
            }
            for group in ConversionMerge.groups(waiting.map { ConversionMerge.Wish($0.range, $0.side) }) {
                serve(group.members.map { waiting[$0] }, group.range, group.side, isCancelled)
            }
        }
        // Served by this thread or by one that held the lock before it.
        return try request.outcome.withLock { $0! }.get()
    }

    private func serve(
        _ members: [ConversionRequest], _ range: GuestPhysicalRange, _ side: MemorySide, _ isCancelled: () -> Bool
    ) {
        let before = attributes.withLock { map in
            map.runs(in: range.frames).filter { $0.state != side.settled }
        }
        let (_, failure) = convertLocked(
            range, to: side, chunk: Self.guestChunk, origin: .guest, requests: members.count, isCancelled: isCancelled)
        for member in members {
            let end = min(max(failure?.end ?? range.end, member.range.start), member.range.end)
            var result = ConversionResult()
            result.changed = pages(before, in: member.range.start..<end).bytes
            result.chunks = 1
            if var failure, end < member.range.end {
                failure.range = member.range
                failure.end = end
                failure.result = result
                failure.leftover = failure.leftover.flatMap { $0.intersection(member.range) }
                member.outcome.withLock { $0 = .failure(.incomplete(failure)) }
            } else {
                member.outcome.withLock { $0 = .success(result) }
            }
        }
    }
}

/// Which waiting requests are served together. Pure.
enum ConversionMerge {
    struct Wish: Hashable {
        var range: GuestPhysicalRange
        var side: MemorySide
        init(_ range: GuestPhysicalRange, _ side: MemorySide) {
            self.range = range
            self.side = side
        }
    }

    struct Group: Hashable {
        var range: GuestPhysicalRange
        var side: MemorySide
        /// Positions in what was given.
        var members: [Int]
    }

    /// Joins requests to one side that touch or overlap. Requests to different sides keep their order of arrival, since
    /// the last word on a page counts.
    static func groups(_ wishes: [Wish]) -> [Group] {
        var groups: [Group] = []
        var start = 0
        while start < wishes.count {
            var end = start
            while end < wishes.count, wishes[end].side == wishes[start].side { end += 1 }
            let order = (start..<end).sorted { wishes[$0].range.start < wishes[$1].range.start }
            let first = groups.count
            for index in order {
                let wish = wishes[index]
                if groups.count > first, wish.range.start <= groups[groups.count - 1].range.end {
                    let range = groups[groups.count - 1].range
                    let last = max(range.end, wish.range.end)
                    groups[groups.count - 1].range = GuestPhysicalRange(start: range.start, size: last - range.start)
                    groups[groups.count - 1].members.append(index)
                } else {
                    groups.append(Group(range: wish.range, side: wish.side, members: [index]))
                }
            }
            start = end
        }
        return groups
    }
}
