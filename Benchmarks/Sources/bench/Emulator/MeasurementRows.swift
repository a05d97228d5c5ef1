import CPeers
import Crypto
import MemoryUnits
import TDXModule

/// MEM.PAGE.ADD and 16 MR.EXTEND a page against SHA-384 of as many bytes in one call.
func measureMeasurement(_ report: inout Report) throws {
    let pages: UInt64 = 4096
    let bytes = Int(pages) * (128 + 16 * (128 + 256))
    let host = try EmulatedHost(PlatformDescription(memory: .gibibytes(4)))
    let contents = [UInt8](repeating: 0, count: bytes)
    let pair = try interleaved(
        runs: report.runs,
        ours: {
            let domain = try host.makeDomain(finalized: false)
            try domain.makeTables(pages: pages)
            let frames = host.pages(pages)
            let time = try cpuNanoseconds {
                for page in 0..<pages {
                    try host.must(
                        Registers(
                            .memPageAdd, rcx: page * 4096, rdx: domain.tdr, r8: frames + page * 4096, r9: 0x20_0000))
                    for chunk: UInt64 in 0..<16 {
                        try host.must(Registers(.mrExtend, rcx: page * 4096 + chunk * 256, rdx: domain.tdr))
                    }
                }
                try host.must(Registers(.mrFinalize, rcx: domain.tdr))
            }
            return Double(bytes) / time * 1000
        },
        peer: {
            let time = cpuNanoseconds {
                var hash = SHA384()
                contents.withUnsafeBytes { hash.update(bufferPointer: $0) }
                peer_keep(UInt64(hash.finalize().reduce(0) { $0 + Int($1) }))
            }
            return Double(bytes) / time * 1000
        })
    report.rows.append(
        Row(
            report.area, "MRTD through MEM.PAGE.ADD and MR.EXTEND", pair, "MB/s",
            against: "swift-crypto SHA-384 of the same number of bytes", .ratio(atLeast: 0.9)))
}
