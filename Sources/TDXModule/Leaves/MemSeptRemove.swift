internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.SEPT.REMOVE (reference §1.5): takes an empty table out.
    func memSeptRemove(_ r: inout Registers, version: UInt64) -> TDXStatus {
        let (target, root) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        if version > 0 { (r.r9, r.r10, r.r11) = (Self.noPage, Self.noPage, Self.noPage) }
        if version > 1 { return .operandInvalid.with(.rax) }
        var access: TDAccess?
        var status = open(root, .rdx, for: .memSeptRemove, .treeExclusive, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard let (found, entry) = findAndLock(target, from: 1, to: access.state.rootLevel, access, &r, &status) else {
            return status
        }
        let state = decode(found.raw)
        func refuse(_ status: TDXStatus, details: Bool = false) -> TDXStatus {
            entry.release(found.raw)
            if details { report(found, &r) }
            return status
        }
        guard permissions.allows(.memSeptRemove, on: state) else {
            return refuse(.eptEntryStateIncorrect.with(.rcx), details: true)
        }
        let slot = Entry.slot(found.raw)
        let address = tables.address(slot)
        var page: LockedPage?
        if lockSmall(address, exclusive: true, into: &page) != nil { return refuse(.operandBusy.with(.rcx)) }
        status = checkTracked(access, found, state, blockEpoch: tables.blockEpoch(slot).get(), &r)
        if !status.isSuccess {
            unlock(page!)
            return refuse(status)
        }
        let table = tables[slot]
        for index in 0..<512 where decode(table.at(index).get()) != .free {
            unlock(page!)
            return refuse(.eptPageNotFree.with(.rcx), details: true)
        }
        entry.release(Entry.free)
        tables.free(slot)
        access.td.pointee.children.minus(1)
        free(page!)
        r.rcx = address
        return .success
    }
}
