internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// SYS.TDMR.INIT (reference §1.7): the PAMT entries of the next 4 MiB. Free entries are zero, as
    /// untouched memory is, so only reserved areas cost anything.
    /// - Parameter chunk: bytes, a power of two up to 1 GiB; `bringUp()` takes larger steps than a host can.
    func sysTdmrInit(_ r: inout Registers, chunk: UInt64 = 4 << 20) -> TDXStatus {
        let base = r.rcx
        guard base % (1 << 30) == 0 else { return .operandInvalid.with(.rcx) }
        enum Step {
            case unknown, busy, finished
            case work(Range<UInt64>, [Range<UInt64>], Int)
        }
        let step: Step = system.withLock { system in
            guard let index = system.tdmrs.firstIndex(where: { $0.base == base }) else { return .unknown }
            if system.tdmrs[index].isBusy { return .busy }
            let tdmr = system.tdmrs[index]
            if tdmr.next == tdmr.end { return .finished }
            system.tdmrs[index].isBusy = true
            let part = tdmr.next..<min(tdmr.next + chunk, tdmr.end)
            return .work(part, tdmr.reserved.filter { $0.overlaps(part) }, index)
        }
        switch step {
        case .unknown: return .operandInvalid.with(.rcx)
        case .busy: return .operandBusy.with(.rcx)
        case .finished:
            r.rdx = 0
            return .tdmrAlreadyInitialized
        case .work(let part, let reserved, let index):
            for area in reserved {
                let pages = area.clamped(to: part)
                for page in stride(from: pages.lowerBound, to: pages.upperBound, by: 4096) {
                    pamt.entry(page, PageSizeCode.small).set(PageWord.make(.reserved, owner: 0))
                }
            }
            if part.upperBound % (1 << 30) == 0 {
                pamt.blocks.at(Int(part.lowerBound >> 30)).set(1)
            }
            system.withLock { system in
                system.tdmrs[index].next = part.upperBound
                system.tdmrs[index].isBusy = false
            }
            r.rdx = part.upperBound & ~((1 << 30) - 1)
            return .success
        }
    }
}
