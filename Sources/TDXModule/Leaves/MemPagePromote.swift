internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.PAGE.PROMOTE (reference §1.5): 512 contiguous pages become one of the next larger size.
    func memPagePromote(_ r: inout Registers, version: UInt64) -> TDXStatus {
        let (target, root) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        if version > 0 { (r.r9, r.r10, r.r11) = (Self.noPage, Self.noPage, Self.noPage) }
        if version > 1 { return .operandInvalid.with(.rax) }
        var access: TDAccess?
        var status = open(root, .rdx, for: .memPagePromote, .treeShared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard let (found, entry) = findAndLock(target, from: 1, to: 2, access, &r, &status) else { return status }
        let result = promote(&r, access, found, operands: (target, root))
        switch result {
        case .refused(let status):
            entry.release(found.raw)
            return status
        case .merged(let value, let table):
            entry.release(value)
            tables.free(Entry.slot(found.raw))
            access.td.pointee.children.minus(1)
            free(table)
            r.rcx = tables.address(Entry.slot(found.raw))
            return .success
        }
    }

    private enum Promotion {
        case refused(TDXStatus)
        /// The parent's new value, and the page of the table that is left over.
        case merged(UInt64, LockedPage)
    }

    private func promote(
        _ r: inout Registers, _ access: TDAccess, _ found: Walk, operands: (UInt64, UInt64)
    ) -> Promotion {
        let state = decode(found.raw)
        guard permissions.allows(.memPagePromote, on: state) else {
            report(found, &r)
            return .refused(.eptEntryStateIncorrect.with(.rcx))
        }
        let slot = Entry.slot(found.raw)
        var table: LockedPage?
        if lockSmall(tables.address(slot), exclusive: true, into: &table) != nil {
            return .refused(.operandBusy.with(.rcx))
        }
        func refuse(_ status: TDXStatus) -> Promotion {
            unlock(table!)
            return .refused(status)
        }
        let tracked = checkTracked(access, found, state, blockEpoch: tables.blockEpoch(slot).get(), &r)
        if !tracked.isSuccess { return refuse(tracked) }
        // The children stay locked until the merge is done or refused.
        let children = tables[slot]
        let size: UInt64 = 1 << (12 + 9 * (found.level - 1))
        var locked = 0
        func giveChildren() {
            for index in 0..<locked {
                let child = children.at(index)
                LockedEntry(entry: child).release(child.get())
            }
        }
        // A pending page's count of accepted chunks does not matter.
        func comparable(_ raw: UInt64) -> UInt64 {
            let value = raw & ~(Entry.hostPriority | Entry.lock)
            return found.level > 1 && value & Entry.pending != 0 ? value & ~Entry.acceptCounterMask : value
        }
        let first = comparable(children.get())
        var isUniform =
            (decode(first) == .mapped || decode(first) == .pending)
            && Entry.address(first) & (size * 512 - 1) == 0
        while locked < 512 {
            let child = children.at(locked)
            var ignored = Registers()
            let raw = child.get()
            guard lockEntry(Walk(entry: child, raw: raw, level: found.level - 1), &ignored) != nil else {
                giveChildren()
                report(found, &r)
                return refuse(.operandBusy.with(.rcx))
            }
            locked += 1
            let value = comparable(raw)
            if value != first &+ UInt64(locked - 1) * size { isUniform = false }
            if !isUniform { break }
        }
        guard isUniform else {
            giveChildren()
            report(found, &r)
            return refuse(.eptInvalidPromoteConditions.with(.rcx))
        }
        if faults.takes(.interrupt) {
            giveChildren()
            (r.rcx, r.rdx) = operands
            return refuse(.interruptedRestartable)
        }
        let address = Entry.address(first)
        guard let parent = lockForMerging(address, Int(found.level)) else {
            giveChildren()
            return refuse(.operandBusy.with(.rcx))
        }
        if usesDynamicPAMT, found.level == 1 {
            let pages = pamtPages(parent.entry)
            (r.r12, r.r13) = pages
            backing.remove(pages.0)
            backing.remove(pages.1)
        }
        merge(parent, address, owner: access.address)
        return .merged(first, table!)
    }
}
