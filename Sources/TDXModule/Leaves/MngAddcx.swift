internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MNG.ADDCX (reference §1.2): one more control page (TDCX).
    func mngAddcx(_ r: inout Registers) -> TDXStatus {
        let address = r.rcx
        var access: TDAccess?
        var status = open(r.rdx, .tdrExclusive, tdr: .tdrExclusive, .rdx, into: &access)
        guard let access else { return status }
        defer { access.release() }
        if access.state.isFatal { return .tdFatal }
        guard access.state.lifecycle == Lifecycle.keysConfigured.rawValue else { return .tdKeysNotConfigured }
        let index = access.state.tdcxCount
        if index > 8 { return .tdcxNumIncorrect }
        var page: LockedPage?
        status = lockPrivate(address, .free, exclusive: true, .rcx, into: &page)
        guard let page else { return status }
        // The page is filled before the last two checks, so their failure leaves it changed (reference §11.2).
        fillControlPage(address, index, access.key)
        if index == 5, faults.takes(.entropy) {
            unlock(page)
            return .rndNoEntropy
        }
        if index > 5, !permissions.allows(.mngAddcx, inOperationState: access.state.opState) {
            unlock(page)
            return opStateIncorrect(access.state.opState)
        }
        if index == 3 { access.td.pointee.rootTable.set(tables.make(address: address, entry: Entry.free)) }
        access.td.details.contents.withLock { $0.controlPages.append(address) }
        access.td.pointee.state.update(TDState.tdcxMask, to: UInt64(index + 1) << 16)
        access.td.pointee.children.plus(1)
        unlock(page, as: .tdcx, owner: access.address, second: 0)
        return .success
    }

    /// Page 2 holds MSR bitmaps, all ones; page 3 the Secure EPT's root; the others start as zeros.
    private func fillControlPage(_ address: UInt64, _ index: Int, _ key: KeyID) {
        switch index {
        case 2: memory.store([UInt8](repeating: 0xFF, count: 4096), at: address, key: key)
        case 3:
            let entry = (0..<8).map { UInt8(truncatingIfNeeded: Entry.free >> (8 * UInt64($0))) }
            memory.store((0..<512).flatMap { _ in entry }, at: address, key: key)
        default: memory.zeroPage(HostPhysicalAddress(address), key: key)
        }
    }
}
