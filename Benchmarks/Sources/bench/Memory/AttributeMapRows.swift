import CPeers
import ConfidentialMemory
import MemoryUnits

/// What the map of 1 TiB holds.
private enum Contents: String, CaseIterable {
    case empty
    case onePercent = "1 % fragmented"
    case half = "50 % fragmented"
    case boot = "after a boot-like trace"

    var permille: UInt32 {
        switch self {
        case .empty, .boot: 0
        case .onePercent: 10
        case .half: 500
        }
    }
}

private let bitmapName = "two-bit bitmap in C"
private let roaringName = "CRoaring"

func measureAttributeMap(_ report: inout Report) {
    let pages: UInt32 = 1 << 28
    var random = Repeatable(seed: 42)
    let numbers = (0..<1_000_000).map { _ in UInt32(random.next() >> 36) }
    let changed = Array(numbers.prefix(200_000))
    // Every run turns all states round, so that each call of every run has something to change.
    let states = changed.map { _ in UInt8(random.next() & 1) }
    let lengths = numbers.prefix(400).map { min(pages - $0, UInt32(1 + random.next() % (1 << 24))) }
    let starts = Array(numbers.prefix(400))
    // Reading the CPU clock takes as long as a hundred of the fastest counts: they are made 100 times.
    let (manyStarts, manyLengths) = (
        [[UInt32]](repeating: starts, count: 100).flatMap(\.self),
        [[UInt32]](repeating: Array(lengths), count: 100).flatMap(\.self)
    )
    let window: UInt32 = 1 << 24
    let trace = bootTrace(pages: pages)

    for contents in Contents.allCases {
        note("  \(contents.rawValue)")
        let ours = MapSubject(pages: pages)
        var bitmap = peer_bitmap_make(UInt64(pages))
        var roaring = peer_roaring_make()
        defer {
            peer_bitmap_free(bitmap)
            peer_roaring_free(roaring)
        }
        if contents == .boot {
            _ = ours.replay(trace)
            _ = peer_bitmap_replay(bitmap, trace, trace.count)
            _ = peer_roaring_replay(roaring, trace, trace.count)
        } else if contents.permille > 0 {
            ours.fill(permille: contents.permille)
            peer_bitmap_fill(bitmap, contents.permille)
            peer_roaring_fill(roaring, pages, contents.permille)
        }
        let sizes = Pair(ours: Double(ours.map.storageSize.rawValue), peer: Double(peer_bitmap_bytes(bitmap)))

        func row(
            _ what: String, _ unit: String, _ scale: Double, _ candidates: [() -> Double]
        ) {
            let medians = interleaved(runs: report.runs, candidates).map { $0 / scale }
            let isBitmap = medians[1] <= medians[2]
            let other = isBitmap ? "\(roaringName) \(short(medians[2]))" : "\(bitmapName) \(short(medians[1]))"
            report.rows.append(
                Row(
                    report.area, "map of 1 TiB, \(contents.rawValue): \(what)",
                    Pair(ours: medians[0], peer: min(medians[1], medians[2])), unit,
                    against: "\(isBitmap ? bitmapName : roaringName) (\(other))", .ratio(atMost: 1)))
        }

        row(
            "lookup of a random page", "ns", Double(numbers.count),
            [
                { ours.lookup(numbers) }, { Double(peer_bitmap_lookup(bitmap, numbers, numbers.count)) },
                { Double(peer_roaring_lookup(roaring, numbers, numbers.count)) },
            ])
        row(
            "count of a random range", "ns", Double(manyStarts.count),
            [
                { ours.count(manyStarts, manyLengths) },
                { Double(peer_bitmap_count(bitmap, starts, lengths, starts.count)) * 100 },
                { Double(peer_roaring_count(roaring, manyStarts, manyLengths, manyStarts.count)) },
            ])
        row(
            "runs of 64 GiB", "µs", 1000,
            [
                { ours.iterate(0, window) }, { Double(peer_bitmap_iterate(bitmap, 0, UInt64(window))) },
                { Double(peer_roaring_iterate(roaring, 0, window)) },
            ])
        if contents == .boot {
            row(
                "one conversion of the trace", "ns", Double(trace.count),
                [
                    {
                        ours.clear()
                        return ours.replay(trace)
                    },
                    {
                        peer_bitmap_free(bitmap)
                        bitmap = peer_bitmap_make(UInt64(pages))
                        return Double(peer_bitmap_replay(bitmap, trace, trace.count))
                    },
                    {
                        peer_roaring_free(roaring)
                        roaring = peer_roaring_make()
                        return Double(peer_roaring_replay(roaring, trace, trace.count))
                    },
                ])
        } else {
            var turn = [UInt8](repeating: 0, count: 3)
            func next(_ candidate: Int) -> [UInt8] {
                turn[candidate] ^= 1
                return turn[candidate] == 1 ? states : states.map { $0 ^ 1 }
            }
            let isEmpty = contents == .empty
            row(
                "set of a random page", "ns", Double(changed.count),
                [
                    {
                        if isEmpty { ours.clear() }
                        return ours.set(changed, next(0))
                    },
                    {
                        if isEmpty {
                            peer_bitmap_free(bitmap)
                            bitmap = peer_bitmap_make(UInt64(pages))
                        }
                        return Double(peer_bitmap_set(bitmap, changed, next(1), changed.count))
                    },
                    {
                        if isEmpty {
                            peer_roaring_free(roaring)
                            roaring = peer_roaring_make()
                        }
                        return Double(peer_roaring_set(roaring, changed, next(2), changed.count))
                    },
                ])
        }
        report.rows.append(
            Row(
                report.area, "map of 1 TiB, \(contents.rawValue): memory", sizes, "bytes", against: bitmapName,
                .ratio(atMost: 1.03)))
        if contents == .onePercent {
            // All but 1 % of the pages are private in a TD, and the kernel keeps a slot for each private page.
            let kernel = 9 * Double(pages) * 0.99
            report.rows.append(
                Row(
                    report.area, "map of 1 TiB, 1 % of a private guest shared: memory",
                    Pair(ours: sizes.ours, peer: kernel), "bytes",
                    against: "the kernel's map, 9 bytes a private page (model)",
                    .ratio(atMost: 1.0 / 20)))
        }
    }
}
