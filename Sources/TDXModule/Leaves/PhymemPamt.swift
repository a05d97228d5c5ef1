internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// PHYMEM.PAMT.ADD (reference §1.6) [late]: gives a 2 MiB range the pair of pages for its 4 KiB metadata.
    func phymemPamtAdd(_ r: inout Registers) -> TDXStatus {
        let (target, pages) = (r.rcx, (r.rdx, r.r8))
        guard usesDynamicPAMT else { return .operandInvalid.with(.rax) }
        guard isLevelAndAddress(target, from: 1, to: 1), target & pamt.invalidBits & ~0xFFF == 0 else {
            return .operandInvalid.with(.rcx)
        }
        let address = target & ~0xFFF
        for (page, operand) in [(pages.0, Operand.rdx), (pages.1, .r8)] {
            if page & pamt.invalidBits != 0 { return .operandInvalid.with(operand) }
            if !pamt.isInitialized(page) { return .operandAddrRangeError.with(operand) }
        }
        if !pamt.isInitialized(address) { return .operandAddrRangeError.with(.rcx) }
        var entry: LockedPage?
        if lockEntry(address, PageSizeCode.large, exclusive: true, into: &entry) != nil {
            return .operandBusy.with(.rcx)
        }
        func refuse(_ status: TDXStatus) -> TDXStatus {
            unlock(entry!)
            return status
        }
        if entry!.type != 0 || PageWord.type(pamt.entry(address, PageSizeCode.huge).get()) != 0 {
            return refuse(.hpaRangeNotFree.with(.rcx))
        }
        if pages.0 == pages.1 { return refuse(.pageNotFree.with(.r8)) }
        // Both pages are checked before either is taken.
        for (page, operand) in [(pages.0, Operand.rdx), (pages.1, .r8)] where page >> 21 != address >> 21 {
            if let refusal = checkPAMTPage(page, operand) { return refuse(refusal) }
        }
        if !backing.insert(pages.0) { return refuse(.pageNotFree.with(.rdx)) }
        if !backing.insert(pages.1) {
            backing.remove(pages.0)
            return refuse(.pageNotFree.with(.r8))
        }
        memory.zeroPage(HostPhysicalAddress(pages.0), key: globalKey)
        memory.zeroPage(HostPhysicalAddress(pages.1), key: globalKey)
        setPAMTPages(entry!.entry, pages, count: 0)
        return .success
    }

    /// PHYMEM.PAMT.REMOVE (reference §1.6) [late]: gives the pair back.
    func phymemPamtRemove(_ r: inout Registers) -> TDXStatus {
        let target = r.rcx
        guard usesDynamicPAMT else { return .operandInvalid.with(.rax) }
        guard isLevelAndAddress(target, from: 1, to: 1), target & pamt.invalidBits & ~0xFFF == 0 else {
            return .operandInvalid.with(.rcx)
        }
        let address = target & ~0xFFF
        if !pamt.isInitialized(address) { return .operandAddrRangeError.with(.rcx) }
        var entry: LockedPage?
        if lockEntry(address, PageSizeCode.large, exclusive: true, into: &entry) != nil || holdsBelow(address) {
            if let entry { unlock(entry) }
            return .operandBusy.with(.rcx)
        }
        guard entry!.type == UInt64(PageType.pamt.rawValue) else {
            unlock(entry!)
            return .noPAMTPagePair.with(.rcx)
        }
        let first = pamt.entry(address, PageSizeCode.small)
        for index in 0..<512 where first.at(index * 2).get() & PageWord.typeMask != 0 {
            unlock(entry!)
            return .pamtPageNotEmpty.with(details: index < 256 ? 0 : 1)
        }
        let pages = pamtPages(entry!.entry)
        backing.remove(pages.0)
        backing.remove(pages.1)
        (r.rdx, r.r8) = pages
        entry!.entry.at(1).pointee.store(0, ordering: .relaxed)
        entry!.entry.set(0)
        return .success
    }

    /// Why a page cannot back a dynamic PAMT; nil when it can.
    func checkPAMTPage(_ page: UInt64, _ operand: Operand) -> TDXStatus? {
        if page & pamt.invalidBits != 0 { return .operandInvalid.with(operand) }
        if !pamt.isInitialized(page) { return .operandAddrRangeError.with(operand) }
        if backing.contains(page) { return .pageNotFree.with(operand) }
        let huge = pamt.entry(page, PageSizeCode.huge).get()
        let large = pamt.entry(page, PageSizeCode.large).get()
        let regular = UInt64(PageType.regular.rawValue)
        if PageWord.type(huge) == regular || PageWord.type(large) == regular { return .pageNotFree.with(operand) }
        // A page in a range without PAMT pages has no entry, and is free.
        guard PageWord.type(large) == UInt64(PageType.pamt.rawValue) else { return nil }
        let small = pamt.entry(page, PageSizeCode.small).get()
        return small & PageWord.typeMask == 0 ? nil : .pageNotFree.with(operand)
    }
}
