internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.SEPT.ADD (reference §1.4): hangs a new table under an entry.
    func memSeptAdd(_ r: inout Registers, version: UInt64) -> TDXStatus {
        if version > 1 { return .operandInvalid.with(.rax) }
        let (target, root, page) = (r.rcx, r.rdx, r.r8)
        r.rcx = 0
        r.rdx = 0
        if root & ~(0x000F_FFFF_FFFF_F000 | 1) != 0 { return .operandInvalid.with(.rdx) }
        var access: TDAccess?
        let status = open(
            root & ~1, .tdrShared + .opStateShared + .treeShared, tdr: .tdrShared, .rdx, into: &access)
        guard let access else { return status }
        defer { access.release() }
        return septAdd(&r, access, target, page, allowsExisting: root & 1 != 0, version: version)
    }

    private func septAdd(
        _ r: inout Registers, _ access: TDAccess, _ target: UInt64, _ address: UInt64, allowsExisting: Bool,
        version: UInt64
    ) -> TDXStatus {
        var status = checkState(access, .memSeptAdd, locksOpState: true)
        if !status.isSuccess { return status }
        let root = access.state.rootLevel
        guard let found = find(target, from: 1, to: root, access, &r, &status) else { return status }
        guard let entry = lockEntry(found, &r) else { return .operandBusy.with(.rcx) }
        let state = decode(found.raw)
        func refuse(_ status: TDXStatus, details: Bool = false) -> TDXStatus {
            entry.release(found.raw)
            if details { report(found, &r) }
            return status
        }
        let wrongState = TDXStatus.eptEntryStateIncorrect.with(.rcx)
        if !permissions.allows(.memSeptAdd, on: state) { return refuse(wrongState, details: true) }
        // All ones: no L1 page is given, for a table that exists.
        if address == .max {
            if version == 0 { return refuse(.operandInvalid.with(.r8)) }
            if state != .tableMapped { return refuse(wrongState, details: true) }
        }
        var page: LockedPage?
        if state == .free {
            status = lockPrivate(address, .free, exclusive: true, .r8, into: &page)
            if page == nil { return refuse(status) }
        } else if !allowsExisting {
            return refuse(wrongState, details: true)
        }
        if version == 1, let operand = nestedPageOperand(r) {
            if let page { unlock(page) }
            return refuse(.operandInvalid.with(operand))
        }
        if let page {
            // One page: nothing to interrupt between pages.
            memory.zeroPage(HostPhysicalAddress(address), key: access.key)
            let slot = tables.make(address: address, entry: Entry.free)
            access.td.pointee.children.plus(1)
            unlock(page, as: .ept, owner: access.address, second: slot)
            entry.release(EntryState.tableMapped.entry(slot << 12))
        } else {
            entry.release(found.raw)
            if address != .max { r.r8 = address | 1 << 63 }
        }
        return .success
    }

    /// The first of R9 … R11 that names a page for a nested virtual machine. The model has none, so its number always
    /// exceeds NUM_L2_VMS. Bit 63 of an input is ignored.
    func nestedPageOperand(_ r: Registers) -> Operand? {
        let none = UInt64.max
        for (value, operand) in [(r.r9, Operand.r9), (r.r10, .r10), (r.r11, .r11)] where value | 1 << 63 != none {
            return operand
        }
        return nil
    }
}
