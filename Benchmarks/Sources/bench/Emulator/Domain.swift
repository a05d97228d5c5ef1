import CPeers
import MemoryUnits
import TDXModule
import TDXStatusCodes

/// One TD on the module. Its loops make one leaf for every page and return the nanoseconds of all of them.
struct Domain: @unchecked Sendable {
    // Sound: the host is touched for its module alone once pages and tables are there.
    let host: EmulatedHost
    let tdr: UInt64
    let tdvprs: [UInt64]
    var processor = LogicalProcessorID(0)
    var module: TDXModule { host.module }

    /// Secure-EPT tables for the pages below `pages`.
    func makeTables(pages: UInt64) throws {
        for level: UInt64 in [3, 2, 1] {
            let span: UInt64 = 1 << (12 + 9 * level)
            for start in stride(from: 0, to: pages * 4096, by: Int(span)) {
                try host.must(Registers(.memSeptAdd, rcx: start | level, rdx: tdr, r8: host.page()))
            }
        }
    }

    @inline(__always)
    private func each(_ pages: UInt64, _ leaf: SeamcallLeaf, _ registers: (UInt64) -> Registers) throws -> Double {
        let module = module
        var failed: TDXStatus?
        let time = cpuNanoseconds {
            for page in 0..<pages {
                var operands = registers(page)
                let status = module.seamcall(&operands, on: processor)
                if !status.isSuccess {
                    failed = status
                    break
                }
            }
        }
        if let failed { throw CallFailed(leaf: leaf, status: failed) }
        return time
    }

    func augment(_ pages: UInt64, from frames: UInt64) throws -> Double {
        try each(pages, .memPageAug) { Registers(.memPageAug, rcx: $0 * 4096, rdx: tdr, r8: frames + $0 * 4096) }
    }

    func block(_ pages: UInt64) throws -> Double {
        try each(pages, .memRangeBlock) { Registers(.memRangeBlock, rcx: $0 * 4096, rdx: tdr) }
    }

    func track() throws { try host.must(Registers(.memTrack, rcx: tdr), on: processor) }

    func remove(_ pages: UInt64) throws -> Double {
        try each(pages, .memPageRemove) { Registers(.memPageRemove, rcx: $0 * 4096, rdx: tdr) }
    }

    func reclaim(_ pages: UInt64, from frames: UInt64) throws -> Double {
        try each(pages, .phymemPageReclaim) { Registers(.phymemPageReclaim, rcx: frames + $0 * 4096) }
    }

    /// The guest accepts; the vCPU is inside meanwhile.
    func accept(_ pages: UInt64) throws -> Double {
        let tdvpr = HostPhysicalAddress(tdvprs[0])
        var registers = Registers(.vpEnter, rcx: tdvprs[0])
        let entered = module.enter(&registers, on: processor)
        guard entered.isSuccess else { throw CallFailed(leaf: .vpEnter, status: entered) }
        defer {
            module.exit(.externalInterrupt, vcpu: tdvpr, into: &registers)
            registers = Registers(.vpFlush, rcx: tdvprs[0])
            module.seamcall(&registers, on: processor)
        }
        var failed: TDCallOutcome?
        let time = cpuNanoseconds {
            for page in 0..<pages {
                var operands = Registers(.memPageAccept, rcx: page * 4096)
                let outcome = module.tdcall(&operands, vcpu: tdvpr)
                if outcome != .completed(.success) {
                    failed = outcome
                    break
                }
            }
        }
        if let failed { throw Unavailable("TDG.MEM.PAGE.ACCEPT: \(failed)") }
        return time
    }

    /// VP.FLUSH of every vCPU; returns how many calls that takes. Where no processor holds state of one the module says so.
    func flushAll() throws -> UInt64 {
        for tdvpr in tdvprs {
            var registers = Registers(.vpFlush, rcx: tdvpr)
            let status = module.seamcall(&registers, on: processor)
            guard status.isSuccess || status.base == .vcpuNotAssociated else {
                throw CallFailed(leaf: .vpFlush, status: status)
            }
        }
        return UInt64(tdvprs.count)
    }

    /// As Linux removes a page from a TD that lives: block, track, remove, write its lines back.
    func removeOneByOne(_ pages: UInt64) throws {
        for page in 0..<pages {
            try host.must(Registers(.memRangeBlock, rcx: page * 4096, rdx: tdr))
            try host.must(Registers(.memTrack, rcx: tdr))
            var registers = Registers(.memPageRemove, rcx: page * 4096, rdx: tdr)
            let status = module.seamcall(&registers, on: processor)
            guard status.isSuccess else { throw CallFailed(leaf: .memPageRemove, status: status) }
            try host.must(Registers(.phymemPageWbinvd, rcx: registers.rcx))
        }
    }

    /// RECLAIM of everything but the TD's memory, its root page last; only for the one TD of a host. Returns the calls.
    func reclaimControlPages() throws -> UInt64 {
        for page in host.controlPages.reversed() { try host.must(Registers(.phymemPageReclaim, rcx: page)) }
        return UInt64(host.controlPages.count)
    }

    /// From runnable to teardown: what must happen once before pages are reclaimed. vCPUs have been flushed.
    func releaseKey() throws {
        try host.must(Registers(.mngVpflushdone, rcx: tdr))
        for package in 0..<host.platform.packages {
            try host.must(
                Registers(.phymemCacheWb),
                on: LogicalProcessorID(UInt32(package * host.platform.logicalProcessorsPerPackage)))
        }
        try host.must(Registers(.mngKeyFreeid, rcx: tdr))
    }
}
