import CPeers
import ConfidentialMemory
import LinuxSystem
import MemoryUnits

/// One TD as the inventory of a host sees it: its map where the holder is, and what it publishes of it.
private final class InventoryDomain {
    var map = PageAttributeMap()
    let published: PublishedFigures
    let reader: FigureReader

    init(pages: UInt64, seed: UInt64) throws {
        published = try PublishedFigures(name: "bench-inventory")
        reader = try FigureReader(try published.duplicateDescriptor())
        var random = Repeatable(seed: seed)
        map.set(GuestFrameNumber(0)..<GuestFrameNumber(pages), to: .private)
        // 1 % of the guest's 2 MiB blocks are mixed, each with every second page on the average.
        let blocks = pages / 512
        for _ in 0..<blocks / 100 {
            let block = random.next() % blocks * 512
            for page in block..<block + 512 where random.next() & 1 == 0 {
                map.set(GuestFrameNumber(page)..<GuestFrameNumber(page + 1), to: .shared)
            }
        }
        published.publish(counts(pages))
    }

    func counts(_ pages: UInt64) -> SIMD4<UInt64> {
        let counts = map.counts(in: GuestFrameNumber(0)..<GuestFrameNumber(pages))
        return SIMD4(
            counts[.shared].rawValue, counts[.private].rawValue, counts[.convertingToPrivate].rawValue,
            counts[.convertingToShared].rawValue)
    }
}

/// How much of a host's memory is private or in transition, over all TDs.
func measureInventory(_ report: inout Report) throws {
    let number = 1000
    let pages = UInt64(64) << 18
    let domains = try (0..<number).map { try InventoryDomain(pages: pages, seed: UInt64($0)) }
    let expected = domains.reduce(SIMD4<UInt64>.zero) { $0 &+ $1.counts(pages) }
    let pair = try interleaved(runs: report.runs) {
        var sum = SIMD4<UInt64>.zero
        let time = nanoseconds { for domain in domains { sum &+= domain.reader.read() ?? .zero } }
        guard sum == expected else { throw WrongInventory() }
        return time / 1e6
    } peer: {
        var sum = SIMD4<UInt64>.zero
        let time = nanoseconds { for domain in domains { sum &+= domain.counts(pages) } }
        guard sum == expected else { throw WrongInventory() }
        return time / 1e6
    }
    report.rows.append(
        Row(
            report.area, "inventory: pages by state of 1,000 TDs of 64 GiB, 1 % of their 2 MiB blocks mixed", pair,
            "ms",
            against: "counting in each map", .value(atMost: 10, "ms")))
    let ours = domains.reduce(0.0) { $0 + Double($1.map.storageSize.rawValue) }
    report.rows.append(
        Row(
            report.area, "inventory: memory of these maps", Pair(ours: ours, peer: Double(pages) * Double(number) / 8),
            "bytes", against: "one bit a page of that memory, computed", .ratio(atMost: 0.05)))
}

private struct WrongInventory: Error, CustomStringConvertible {
    var description: String { "the published figures are not those of the maps" }
}
