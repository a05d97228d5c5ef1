internal import MemoryUnits
internal import TDXStatusCodes

extension TDXModule {
    /// PHYMEM.PAGE.RDMD (reference §1.6): what a physical page is. Changes nothing.
    func phymemPageRdmd(_ r: inout Registers) -> TDXStatus {
        let address = r.rcx
        if address & pamt.invalidBits != 0 { return .operandInvalid.with(.rcx) }
        if !pamt.isInitialized(address) { return .operandAddrRangeError.with(.rcx) }
        var page: LockedPage?
        if lockFound(address, exclusive: false, into: &page) != nil { return .operandBusy.with(.rcx) }
        defer { unlock(page!) }
        let type = page!.type
        r.rcx = type
        r.rdx = page!.owner
        r.r8 = UInt64(page!.size)
        switch type {
        case UInt64(PageType.regular.rawValue): r.r9 = page!.entry.at(1).get()
        case UInt64(PageType.ept.rawValue): r.r9 = tables.blockEpoch(page!.entry.at(1).get()).get()
        default: r.r9 = 0
        }
        r.r10 = 0
        r.r11 = 0
        if type == UInt64(PageType.pamt.rawValue) { r.rdx = 0 }
        return .success
    }
}
