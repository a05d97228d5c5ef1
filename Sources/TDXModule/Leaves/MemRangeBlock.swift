internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.RANGE.BLOCK (reference §1.5): no new translations of a page or table.
    func memRangeBlock(_ r: inout Registers) -> TDXStatus {
        let (target, root) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        var access: TDAccess?
        var status = open(root, .rdx, for: .memRangeBlock, .treeExclusive, into: &access)
        guard let access else { return status }
        status = block(&r, access, target)
        access.release()
        return status
    }

    @inline(__always)
    private func block(_ r: inout Registers, _ access: TDAccess, _ target: UInt64) -> TDXStatus {
        var status = TDXStatus.success
        guard let found = findUnlocked(target, from: 0, to: access.state.rootLevel, access, &r, &status) else {
            return status
        }
        let level = found.level
        let state = decode(found.raw)
        if !permissions.allows(.memRangeBlock, on: state) {
            report(found, &r)
            return state.isIn(EntryState.blockedSet)
                ? .gpaRangeAlreadyBlocked.with(.rcx) : .eptEntryStateIncorrect.with(.rcx)
        }
        guard commit(found, Entry.blocking(found.raw, level: level), &r) else { return .operandBusy.with(.rcx) }
        // Sampled after blocking, so that a vCPU that enters in between counts as one that may know the page.
        blockEpoch(found.raw, level: level).set(access.td.pointee.epoch.get())
        return .success
    }

    /// BEPOCH of what an entry maps: a page at its level, or a table's own page.
    @inline(__always) func blockEpoch(_ raw: UInt64, level: UInt64) -> AtomicWords {
        Entry.isLeaf(raw)
            ? pamt.entry(Entry.address(raw) & ~((1 << (12 + 9 * level)) - 1), Int(level)).at(1)
            : tables.blockEpoch(Entry.slot(raw))
    }
}
