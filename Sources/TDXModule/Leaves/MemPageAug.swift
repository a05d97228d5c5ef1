internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.PAGE.AUG (reference §1.4): a pending page of 4 KiB or 2 MiB, for the guest to accept.
    func memPageAug(_ r: inout Registers) -> TDXStatus {
        let (target, root) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        var access: TDAccess?
        var status = open(root, .rdx, for: .memPageAug, .treeShared, into: &access)
        guard let access else { return status }
        status = augment(&r, access, target, r.r8)
        access.release()
        return status
    }

    @inline(__always)
    private func augment(
        _ r: inout Registers, _ access: TDAccess, _ target: UInt64, _ address: UInt64
    ) -> TDXStatus {
        var status = TDXStatus.success
        guard let found = findUnlocked(target, from: 0, to: 1, access, &r, &status) else { return status }
        let level = found.level
        if !permissions.allows(.memPageAug, on: decode(found.raw)) {
            return wrongState(found, &r)
        }
        var page: LockedPage?
        status =
            level == 0
            ? lockPrivate(address, .free, exclusive: true, .r8, into: &page)
            : lockFreeLarge(address, .r8, into: &page)
        guard let page else { return status }
        let pending = Entry.suppressVE | Entry.memoryType | Entry.leaf | 1 << 6 | Entry.pending | address
        guard commit(found, pending, &r) else {
            unlock(page)
            return .operandBusy.with(.rcx)
        }
        access.td.pointee.children.plus(1 << (9 * level))
        unlock(page, as: .regular, owner: access.address, second: 0)
        return .success
    }
}
