internal import MemoryUnits
internal import Synchronization

/// A lock of reference §7.2, for faults.
public enum LockName: String, Hashable, Sendable, CaseIterable {
    /// The TDR page that the call names.
    case tdr
    /// The TDVPR page that the call names.
    case tdvpr
    /// The page that the call would assign (R8, or RCX of the leaves that add pages).
    case page
    case opState
    case septTree
    /// The Secure-EPT entry that RCX names.
    case septEntry
    case tdEpoch
    case keyTable
    case keyUnit
    case writeBack
    case system
    case rtmr
}

/// A lock that the injector holds as if another processor did, for the time of one call.
struct HeldLock {
    var release: () -> Void
}

extension TDXModule {
    /// Holds a lock that the call would need; nil when the call names no such object, or another call holds it.
    func hold(_ lock: LockName, _ leaf: SeamcallLeaf, _ r: Registers, _ processor: LogicalProcessorID) -> HeldLock? {
        let places = leaf.row.locks
        let (tdr, tdvpr) = (places.tdr?.value(r), places.tdvpr?.value(r))
        switch lock {
        case .tdvpr: return tdvpr.flatMap { holdPage($0) }
        case .page: return (places.page?.value(r)).flatMap { holdPage($0) }
        case .tdr, .opState, .septTree, .tdEpoch:
            let root = tdr ?? tdvpr.flatMap { metadata(of: HostPhysicalAddress($0))?.owner.rawValue }
            guard let root, let td = findTD(root) else { return nil }
            let shift =
                switch lock {
                case .tdr: TDLockRequest.tdrShift
                case .opState: TDLockRequest.opStateShift
                case .septTree: TDLockRequest.treeShift
                default: TDLockRequest.epochShift
                }
            let request = TDLockRequest.exclusive(shift)
            guard tryLock(td, request) == 0 else { return nil }
            return HeldLock { td.pointee.locks.minus(request.amount) }
        case .septEntry:
            guard let root = tdr, let td = findTD(root), td.pointee.rootTable.get() != 0 else { return nil }
            let level = TDState(td.pointee.state.get()).rootLevel
            guard level != 0, r.rcx & td.pointee.forbiddenGPABits.get() == 0, r.rcx & 7 <= level else { return nil }
            let found = walk(td, r.rcx & ~0xFFF, to: r.rcx & 7, root: level)
            var ignored = Registers()
            guard found.raw & (Entry.lock | Entry.hostPriority) == 0, let entry = lockEntry(found, &ignored) else {
                return nil
            }
            return HeldLock { entry.release(found.raw) }
        case .keyTable:
            guard keyTableLock.tryLock(exclusive: true) else { return nil }
            return HeldLock { self.keyTableLock.unlock(exclusive: true) }
        case .keyUnit:
            guard keyUnitLock.tryLock(exclusive: true) else { return nil }
            return HeldLock { self.keyUnitLock.unlock(exclusive: true) }
        case .system:
            guard systemLock.tryLock(exclusive: true) else { return nil }
            return HeldLock { self.systemLock.unlock(exclusive: true) }
        case .writeBack:
            let package = platform.package(of: processor)
            let isMine = writeBacks.withLock { states in
                if states[package].isBusy { return false }
                states[package].isBusy = true
                return true
            }
            guard isMine else { return nil }
            return HeldLock { self.writeBacks.withLock { $0[package].isBusy = false } }
        case .rtmr: return nil
        }
    }

    private func holdPage(_ address: UInt64) -> HeldLock? {
        guard address & pamt.invalidBits == 0, pamt.isInitialized(address) else { return nil }
        var page: LockedPage?
        guard lockFound(address, exclusive: true, into: &page) == nil, let page else { return nil }
        return HeldLock { self.unlock(page) }
    }
}
