internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.PAGE.RELOCATE (reference §1.5): moves a 4 KiB page to another physical page.
    func memPageRelocate(_ r: inout Registers) -> TDXStatus {
        let (target, root, destination) = (r.rcx, r.rdx, r.r8)
        r.rcx = 0
        r.rdx = 0
        var access: TDAccess?
        var status = open(root, .rdx, for: .memPageRelocate, .treeShared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard let (found, entry) = findAndLock(target, from: 0, to: 0, access, &r, &status) else { return status }
        let state = decode(found.raw)
        func refuse(_ status: TDXStatus, details: Bool = false) -> TDXStatus {
            entry.release(found.raw)
            if details { report(found, &r) }
            return status
        }
        guard permissions.allows(.memPageRelocate, on: state) else {
            return refuse(.eptEntryStateIncorrect.with(.rcx), details: true)
        }
        let source = Entry.address(found.raw)
        if destination == source { return refuse(.operandInvalid.with(.r8)) }
        var old: LockedPage?
        if lockSmall(source, exclusive: true, into: &old) != nil { return refuse(.operandBusy.with(.rcx)) }
        status = checkTracked(access, found, state, blockEpoch: old!.entry.at(1).get(), &r)
        if !status.isSuccess {
            unlock(old!)
            return refuse(status)
        }
        var new: LockedPage?
        status = lockPrivate(destination, .free, exclusive: true, .r8, into: &new)
        guard let new else {
            unlock(old!)
            return refuse(status)
        }
        if found.raw & Entry.pending == 0 {
            memory.copyPage(
                from: HostPhysicalAddress(source), sourceKey: access.key, to: HostPhysicalAddress(destination),
                key: access.key)
        }
        let moved = found.raw & ~Entry.addressMask | destination
        entry.release(moved & Entry.blocked != 0 ? Entry.unblocking(moved) : moved)
        free(old!)
        unlock(new, as: .regular, owner: access.address, second: 0)
        r.rcx = source | (usesDynamicPAMT ? removalHint(source) : 0)
        return .success
    }
}
