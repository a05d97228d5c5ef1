import CPeers
import LinuxSystem
import MemoryUnits
import Synchronization
import TDXModule

private let gibibyte: UInt64 = 1 << 18
private let leaves = ["MEM.PAGE.AUG", "MEM.PAGE.ACCEPT", "MEM.RANGE.BLOCK", "MEM.PAGE.REMOVE", "PHYMEM.PAGE.RECLAIM"]

/// Nanoseconds a call for the five leaves on 1 GiB of 4 KiB pages that exist already: the metadata is warm in both cases.
func measureLeaves(_ report: inout Report) throws {
    let host = try EmulatedHost(PlatformDescription(memory: .gibibytes(64)))
    let metadata = Mutex(peer_metadata_make(gibibyte))
    defer { metadata.withLock { peer_metadata_free($0) } }
    let frames = host.pages(gibibyte)
    let living = try host.makeDomain()
    try living.makeTables(pages: gibibyte)

    var ours = [[Double]](repeating: [], count: leaves.count)
    var peers = [[Double]](repeating: [], count: leaves.count)
    // The first round touches everything for the first time and does not count.
    for round in 0...report.runs {
        var times = [
            try living.augment(gibibyte, from: frames), try living.accept(gibibyte), try living.block(gibibyte),
        ]
        try living.track()
        times.append(try living.remove(gibibyte))
        // A TD of its own is torn down in each round.
        let dying = try host.makeDomain()
        try dying.makeTables(pages: gibibyte)
        _ = try dying.augment(gibibyte, from: frames)
        try dying.releaseKey()
        times.append(try dying.reclaim(gibibyte, from: frames))
        let theirs = metadata.withLock { metadata in
            [
                peer_metadata_aug(&metadata), peer_metadata_accept(&metadata),
                peer_metadata_block(&metadata, UInt64(round)), peer_metadata_remove(&metadata),
                peer_metadata_reclaim(&metadata),
            ]
        }
        guard round > 0 else { continue }
        for index in leaves.indices {
            ours[index].append(times[index] / Double(gibibyte))
            peers[index].append(Double(theirs[index]) / Double(gibibyte))
        }
    }
    for (index, leaf) in leaves.enumerated() {
        report.rows.append(
            Row(
                report.area, "\(leaf) of a 4 KiB page, one thread",
                Pair(ours: median(ours[index]), peer: median(peers[index])), "ns",
                against: "C, storing the same metadata words", .value(atMost: 100, "ns").and(.ratio(atMost: 6))))
    }
}

/// AUG, BLOCK and REMOVE of one TD by one thread, and of two TDs by two threads at once.
func measureThreads(_ report: inout Report) throws {
    let host = try EmulatedHost(PlatformDescription(memory: .gibibytes(64)))
    let domains = try (0..<2).map { index in
        var domain = try host.makeDomain()
        domain.processor = LogicalProcessorID(UInt32(index))
        try domain.makeTables(pages: gibibyte)
        return domain
    }
    let frames = domains.map { _ in host.pages(gibibyte) }

    @Sendable func work(_ index: Int) throws {
        for _ in 0..<2 {
            _ = try domains[index].augment(gibibyte, from: frames[index])
            _ = try domains[index].block(gibibyte)
            try domains[index].track()
            _ = try domains[index].remove(gibibyte)
        }
    }
    // Every page exists before anything is measured.
    for index in domains.indices { try work(index) }
    let calls = Double(2 * 3 * gibibyte)
    let pair = try interleaved(
        runs: report.runs,
        ours: {
            let failure = Mutex<(any Error)?>(nil)
            let time = try nanoseconds {
                let other = try SystemThread(name: "bench-1") {
                    do { try work(1) } catch { failure.withLock { $0 = error } }
                }
                defer { other.join() }
                try work(0)
            }
            if let error = failure.withLock({ $0 }) { throw error }
            return 2 * calls / time * 1000
        },
        peer: { calls / (try nanoseconds { try work(0) }) * 1000 })
    report.rows.append(
        Row(
            report.area, "AUG, BLOCK and REMOVE by two threads on two TDs", pair, "million calls/s",
            against: "one thread on one TD", .ratio(atLeast: 1.8)))
}

/// What metadata costs the process.
func measureSpace(_ report: inout Report) throws {
    let pages = 4 * gibibyte
    let before = peer_resident_bytes()
    let host = try EmulatedHost(PlatformDescription(memory: .gibibytes(64)))
    let domain = try host.makeDomain()
    try domain.makeTables(pages: pages)
    _ = try domain.augment(pages, from: host.pages(pages))
    let grown = Double(peer_resident_bytes()) - Double(before)
    report.rows.append(
        Row(
            report.area, "resident memory of the process for each mapped 4 KiB page, TD of 4 GiB",
            Pair(ours: grown / Double(pages), peer: 24), "bytes",
            against: "16 bytes of PAMT and 8 of Secure EPT", .value(atMost: 26, "bytes")))

    // 64 TiB and their PAMT end below bit 47; 4 key-id bits leave 48.
    let physical = PlatformDescription(memory: .gibibytes(64 << 10), mktmeKeys: 3, tdxKeys: 4, keyIDBits: 4)
    let start = peer_resident_bytes()
    let large = try EmulatedHost(physical)
    let cost = Double(peer_resident_bytes()) - Double(start)
    report.rows.append(
        Row(
            report.area, "resident memory of a 64 TiB physical space, brought up and not used",
            Pair(ours: cost, peer: 64 * Double(1 << 40) / 256), "bytes", against: "a full PAMT of it",
            .value(atMost: 1_048_576, "bytes")))
    withExtendedLifetime(large) {}
}

/// Build and teardown of TDs of 4 KiB pages, metadata only: nanoseconds a page.
func measureLinearity(_ report: inout Report) throws {
    func life(_ gibibytes: UInt64) throws -> Double {
        let pages = gibibytes * gibibyte
        let host = try EmulatedHost(PlatformDescription(memory: .gibibytes(gibibytes + 2)))
        let frames = host.pages(pages)
        let time = try cpuNanoseconds {
            let domain = try host.makeDomain()
            try domain.makeTables(pages: pages)
            _ = try domain.augment(pages, from: frames)
            try domain.releaseKey()
            _ = try domain.reclaim(pages, from: frames)
        }
        return time / Double(pages)
    }
    let pair = try interleaved(runs: report.runs, ours: { try life(64) }, peer: { try life(1) })
    report.rows.append(
        Row(
            report.area, "build and tear down a 64 GiB TD of 4 KiB pages, metadata only, per page", pair, "ns",
            against: "a 1 GiB TD", .ratio(atMost: 1.15)))
}
