public import MemoryUnits
internal import Synchronization

/// States that no sequence of the model's leaves reaches (migration, above all), for tests of the tables of states.
@_spi(Testing) extension TDXModule {
    /// Puts a trust domain into an operation state.
    public func force(_ state: OperationState, of tdr: HostPhysicalAddress) {
        findTD(tdr.rawValue)?.pointee.state.update(TDState.opStateMask, to: UInt64(state.rawValue) << 24)
    }

    /// Puts a leaf or table entry into a state; the page or table that it refers to stays.
    public func force(_ state: EntryState, at address: GuestPhysicalAddress, level: Int, of tdr: HostPhysicalAddress) {
        guard let td = findTD(tdr.rawValue) else { return }
        let root = TDState(td.pointee.state.get()).rootLevel
        let found = walk(td, address.rawValue, to: UInt64(level), root: root)
        found.entry.set(state.entry(Entry.address(found.raw)))
    }

    /// Locks or unlocks an entry as another processor of the host would, and returns whether host priority is set.
    public func setEntryLock(
        _ isLocked: Bool, at address: GuestPhysicalAddress, level: Int, of tdr: HostPhysicalAddress
    ) {
        guard let td = findTD(tdr.rawValue) else { return }
        let root = TDState(td.pointee.state.get()).rootLevel
        let entry = walk(td, address.rawValue, to: UInt64(level), root: root).entry
        if isLocked {
            entry.pointee.bitwiseOr(Entry.lock, ordering: .acquiringAndReleasing)
        } else {
            entry.pointee.bitwiseAnd(~Entry.lock, ordering: .acquiringAndReleasing)
        }
    }

    /// The raw entry, with a table's page where the model keeps its slot.
    public func rawEntry(_ address: GuestPhysicalAddress, level: Int, of tdr: HostPhysicalAddress) -> UInt64? {
        guard let td = findTD(tdr.rawValue) else { return nil }
        let root = TDState(td.pointee.state.get()).rootLevel
        let found = walk(td, address.rawValue, to: UInt64(level), root: root)
        guard found.level == level else { return nil }
        let state = decode(found.raw)
        guard state == .tableMapped || state == .tableBlocked else { return found.raw }
        return found.raw & ~Entry.addressMask | tables.address(Entry.slot(found.raw))
    }
}
