import CPeers
import ConfidentialMemory
import Glibc
import MemoryUnits

/// Pages lie in place here: a VM of type 0 has no private attribute, so a conversion is the map's transaction, the drop of
/// the host's mappings and the punch.
func measureConversion(_ report: inout Report) throws {
    let size = ByteCount.mebibytes(64)
    let block = ByteCount.mebibytes(2)
    let subject = try RealMemory(size, shards: 1)
    let range = GuestPhysicalRange(start: GuestPhysicalAddress(0), size: block)
    guard let view = subject.memory.hostView(of: range)?.baseAddress else { throw Unavailable("no mapping") }
    let peer = try makePeer(size)
    guard let mapping = peer_memory_map(peer) else { throw Unavailable("the peer has no mapping") }
    defer {
        peer_memory_unmap(mapping, size.rawValue)
        peer_memory_close(peer)
    }

    // Each way finds all 2 MiB resident and mapped, as memory in use is.
    func touch(_ memory: UnsafeMutableRawPointer) { memset(memory, 0x5a, Int(block.rawValue)) }
    func once(_ convert: (Bool) throws -> Double, _ memory: UnsafeMutableRawPointer) rethrows -> Double {
        touch(memory)
        let there = try convert(true)
        touch(memory)
        return there + (try convert(false))
    }
    func thereAndBack(_ convert: (Bool) throws -> Double, _ memory: UnsafeMutableRawPointer) rethrows -> Double {
        median(try (0..<40).map { _ in try once(convert, memory) }) / 1000
    }
    let pair = try interleaved(
        runs: max(report.runs, 5),
        ours: {
            try thereAndBack(
                { isPrivate in
                    try nanoseconds { try subject.memory.convert(range, to: isPrivate ? .private : .shared) }
                }, view)
        },
        peer: { try thereAndBack({ _ in try checked(peer_memory_discard(peer, mapping, 0, block.rawValue)) }, mapping) }
    )
    report.rows.append(
        Row(
            report.area, "convert 2 MiB there and back, in place", pair, "µs",
            against: "C, madvise and punch, no map and no attributes", .ratio(atMost: 1.15)))
    try subject.tearDown()
}
