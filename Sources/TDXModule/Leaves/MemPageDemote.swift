internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.PAGE.DEMOTE (reference §1.5): a large page becomes 512 of the next smaller size.
    func memPageDemote(_ r: inout Registers) -> TDXStatus {
        let (target, operand) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        if operand & ~(0x000F_FFFF_FFFF_F000 | 1) != 0 { return .operandInvalid.with(.rdx) }
        var access: TDAccess?
        var status = open(operand & ~1, .rdx, for: .memPageDemote, .treeShared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard let (found, entry) = findAndLock(target, from: 1, to: 2, access, &r, &status) else { return status }
        switch demote(&r, access, found, operands: (target, operand)) {
        case .refused(let status):
            entry.release(found.raw)
            return status
        case .split(let slot):
            entry.release(EntryState.tableMapped.entry(slot << 12))
            r.r9 |= 1 << 63
            r.r10 |= 1 << 63
            r.r11 |= 1 << 63
            return .success
        }
    }

    private enum Demotion {
        case refused(TDXStatus)
        /// The slot of the new table.
        case split(UInt64)
    }

    private func demote(
        _ r: inout Registers, _ access: TDAccess, _ found: Walk, operands: (UInt64, UInt64)
    ) -> Demotion {
        let state = decode(found.raw)
        guard permissions.allows(.memPageDemote, on: state) else {
            report(found, &r)
            return .refused(.eptEntryStateIncorrect.with(.rcx))
        }
        let level = found.level
        let address = Entry.address(found.raw) & ~((1 << (12 + 9 * level)) - 1)
        let blocked = pamt.entry(address, Int(level)).at(1).get()
        var status = checkTracked(access, found, state, blockEpoch: blocked, &r)
        if !status.isSuccess { return .refused(status) }
        var tablePage: LockedPage?
        status = lockPrivate(r.r8, .free, exclusive: true, .r8, into: &tablePage)
        guard let tablePage else { return .refused(status) }
        func refuse(_ status: TDXStatus) -> Demotion {
            unlock(tablePage)
            return .refused(status)
        }
        var pages: (UInt64, UInt64)?
        if usesDynamicPAMT, level == 1 {
            if let refusal = checkPAMTPage(r.r12, .r12) ?? checkPAMTPage(r.r13, .r13) { return refuse(refusal) }
            guard r.r12 != r.r13, r.r12 != r.r8 else { return refuse(.pageNotFree.with(.r12)) }
            guard r.r13 != r.r8 else { return refuse(.pageNotFree.with(.r13)) }
            pages = (r.r12, r.r13)
        }
        // [late] only trust domains with nested machines look for interrupts here.
        if !isLate, faults.takes(.interrupt) {
            (r.rcx, r.rdx) = operands
            return refuse(.interruptedRestartable)
        }
        var parent: LockedPage?
        if lockEntry(address, Int(level), exclusive: true, into: &parent) != nil {
            return refuse(.operandBusy.with(.rcx))
        }
        if let pages {
            for page in [pages.0, pages.1] where !backing.insert(page) {
                // Another call took it since it was checked.
                if page == pages.1 { backing.remove(pages.0) }
                unlock(parent!)
                return refuse(.pageNotFree.with(page == pages.0 ? .r12 : .r13))
            }
        }
        memory.zeroPage(HostPhysicalAddress(r.r8), key: access.key)
        let slot = tables.make(address: r.r8, entry: Entry.free)
        fill(slot, found.raw, address, level)
        split(parent!, address, pamtPages: pages)
        access.td.pointee.children.plus(1)
        unlock(tablePage, as: .ept, owner: access.address, second: slot)
        return .split(slot)
    }

    /// 512 entries of the next smaller size, unblocked. A pending 2 MiB page that the guest had begun to accept starts
    /// over: its chunks are pending again.
    private func fill(_ slot: UInt64, _ raw: UInt64, _ address: UInt64, _ level: UInt64) {
        let size: UInt64 = 1 << (12 + 9 * (level - 1))
        let base = raw & ~(Entry.addressMask | Entry.lock | Entry.hostPriority)
        let child = base & Entry.blocked != 0 ? Entry.unblocking(base) : base
        let table = tables[slot]
        for index in 0..<512 {
            table.at(index).pointee.store(child | address + UInt64(index) * size, ordering: .relaxed)
        }
    }
}
