internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.PAGE.REMOVE (reference §1.5): takes a page of 4 KiB, 2 MiB or 1 GiB out of a trust domain.
    func memPageRemove(_ r: inout Registers) -> TDXStatus {
        let (target, root) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        var access: TDAccess?
        var status = open(root, .rdx, for: .memPageRemove, .treeShared, into: &access)
        guard let access else { return status }
        status = remove(&r, access, target)
        access.release()
        return status
    }

    @inline(__always)
    private func remove(_ r: inout Registers, _ access: TDAccess, _ target: UInt64) -> TDXStatus {
        var status = TDXStatus.success
        guard let found = findUnlocked(target, from: 0, to: 2, access, &r, &status) else { return status }
        let level = found.level
        let state = decode(found.raw)
        if !permissions.allows(.memPageRemove, on: state) {
            return wrongState(found, &r)
        }
        let address = Entry.address(found.raw) & ~((1 << (12 + 9 * level)) - 1)
        var page: LockedPage?
        let failure =
            level == 0
            ? lockSmall(address, exclusive: true, into: &page)
            : lockEntry(address, Int(level), exclusive: true, into: &page)
        guard failure == nil, let page else { return .operandBusy.with(.rcx) }
        if faults.takes(.pageMetadata) {
            unlock(page)
            return .pageMetadataIncorrect.with(.rcx)
        }
        status = checkTracked(access, found, state, blockEpoch: page.entry.at(1).get(), &r)
        if !status.isSuccess {
            unlock(page)
            return status
        }
        let isImporting = access.state.opState >= 6 && access.state.opState <= 9
        guard commit(found, isImporting ? EntryState.removed.entry(0) : Entry.free, &r) else {
            unlock(page)
            return .operandBusy.with(.rcx)
        }
        access.td.pointee.children.minus(1 << (9 * level))
        free(page)
        r.rcx = usesDynamicPAMT ? address | removalHint(address) : address
        return .success
    }
}
