import MemoryUnits
import TDXModule

/// SEAMCALLs of one teardown, and how long they took here.
private struct Ending {
    var calls: [SeamcallLeaf: UInt64] = [:]
    var nanoseconds = 0.0

    var total: UInt64 { calls.values.reduce(0, +) }

    /// Seconds that the published figures give for these calls.
    func modelled(vcpus: Int) -> Double {
        let model = LatencyModel.published
        return calls.reduce(0) { $0 + Double($1.value) * Double(model.nanoseconds($1.key, vcpus: vcpus)) } / 1e9
    }
}

/// A TD of 64 GiB in 4 KiB pages with 64 vCPUs, metadata only, ended in the two orders that a kernel can take: page by page
/// while it lives, or after its key id was released. The calls are those that Linux makes; what the model makes of
/// them and what they cost in this process are apart.
func measureModuleTeardown(_ report: inout Report) throws {
    let vcpus = 64
    let pages: UInt64 = 64 << 18
    func make() throws -> (EmulatedHost, Domain, UInt64) {
        let host = try EmulatedHost(
            PlatformDescription(memory: .gibibytes(66), packages: 2, logicalProcessorsPerPackage: 32))
        let frames = host.pages(pages)
        let domain = try host.makeDomain(vcpus: vcpus)
        try domain.makeTables(pages: pages)
        _ = try domain.augment(pages, from: frames)
        return (host, domain, frames)
    }
    func terminateFirst() throws -> Ending {
        let (host, domain, frames) = try make()
        var ending = Ending()
        ending.nanoseconds = try cpuNanoseconds {
            ending.calls[.vpFlush] = try domain.flushAll()
            try domain.releaseKey()
            ending.calls[.mngVpflushdone] = 1
            ending.calls[.phymemCacheWb] = UInt64(host.platform.packages)
            ending.calls[.mngKeyFreeid] = 1
            _ = try domain.reclaim(pages, from: frames)
            ending.calls[.phymemPageReclaim] = try pages + domain.reclaimControlPages()
        }
        return ending
    }
    func dynamicRemoval() throws -> Ending {
        let (host, domain, _) = try make()
        var ending = Ending()
        ending.nanoseconds = try cpuNanoseconds {
            try domain.removeOneByOne(pages)
            for leaf in [SeamcallLeaf.memRangeBlock, .memTrack, .memPageRemove, .phymemPageWbinvd] {
                ending.calls[leaf] = pages
            }
            ending.calls[.vpFlush] = try domain.flushAll()
            try domain.releaseKey()
            ending.calls[.mngVpflushdone] = 1
            ending.calls[.phymemCacheWb] = UInt64(host.platform.packages)
            ending.calls[.mngKeyFreeid] = 1
            ending.calls[.phymemPageReclaim] = try domain.reclaimControlPages()
        }
        return ending
    }
    var (first, live) = (Ending(), Ending())
    let times = try interleaved(
        runs: report.runs,
        ours: {
            first = try terminateFirst()
            return first.nanoseconds / 1e9
        },
        peer: {
            live = try dynamicRemoval()
            return live.nanoseconds / 1e9
        })
    let name = "end of a 64 GiB TD with 64 vCPUs, terminate first"
    let others = first.total - (first.calls[.phymemPageReclaim] ?? 0)
    report.rows.append(
        Row(
            report.area, "\(name): modelled time",
            Pair(ours: first.modelled(vcpus: vcpus), peer: live.modelled(vcpus: vcpus)), "s",
            against: "dynamic removal, published figures", .ratio(atMost: 1 / 11.9)))
    report.rows.append(
        Row(
            report.area, "\(name): SEAMCALLs", Pair(ours: Double(first.total), peer: Double(live.total)), "calls",
            against: "dynamic removal",
            Target(text: "one RECLAIM a page, vCPUs + packages + 2 others (\(others) here)") { _, _ in
                others == UInt64(vcpus + 2 + 2)
            }))
    report.rows.append(
        Row(
            report.area, "\(name): real time in the module", times, "s", against: "dynamic removal",
            .ratio(atMost: 1.0 / 3)))
}
