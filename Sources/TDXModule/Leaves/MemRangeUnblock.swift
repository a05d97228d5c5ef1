internal import MemoryUnits
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.RANGE.UNBLOCK (reference §1.5).
    func memRangeUnblock(_ r: inout Registers) -> TDXStatus {
        let (target, root) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        var access: TDAccess?
        var status = open(root, .rdx, for: .memRangeUnblock, .treeExclusive, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard let found = findUnlocked(target, from: 0, to: access.state.rootLevel, access, &r, &status) else {
            return status
        }
        let level = found.level
        guard permissions.allows(.memRangeUnblock, on: decode(found.raw)) else {
            return wrongState(found, &r)
        }
        if permissions.requiresTracking(inOperationState: access.state.opState),
            !isTracked(access.td, blocked: blockEpoch(found.raw, level: level).get())
        {
            return .tlbTrackingNotDone.with(.septTree)
        }
        return commit(found, Entry.unblocking(found.raw), &r) ? .success : .operandBusy.with(.rcx)
    }
}
