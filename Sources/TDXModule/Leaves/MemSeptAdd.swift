internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.SEPT.ADD (reference §1.4): hangs a new table under an entry.
    func memSeptAdd(_ r: inout Registers, version: UInt64) -> TDXStatus {
        let (target, root, operand) = (r.rcx, r.rdx, r.r8)
        r.rcx = 0
        r.rdx = 0
        if version > 1 { return .operandInvalid.with(.rax) }
        // Version 1 returns the pages that were not used, with a mark that its next call ignores.
        let page = Self.withoutMark(operand)
        if version == 1 {
            r.r8 = page
            r.r9 = Self.withoutMark(r.r9)
            r.r10 = Self.withoutMark(r.r10)
            r.r11 = Self.withoutMark(r.r11)
        }
        if root & ~(0x000F_FFFF_FFFF_F000 | 1) != 0 { return .operandInvalid.with(.rdx) }
        var access: TDAccess?
        let status = open(root & ~1, .rdx, for: .memSeptAdd, .treeShared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        return septAdd(&r, access, target, page, allowsExisting: root & 1 != 0, version: version)
    }

    private func septAdd(
        _ r: inout Registers, _ access: TDAccess, _ target: UInt64, _ address: UInt64, allowsExisting: Bool,
        version: UInt64
    ) -> TDXStatus {
        var status = TDXStatus.success
        let root = access.state.rootLevel
        guard let (found, entry) = findAndLock(target, from: 1, to: root, access, &r, &status) else { return status }
        let state = decode(found.raw)
        func refuse(_ status: TDXStatus, details: Bool = false) -> TDXStatus {
            entry.release(found.raw)
            if details { report(found, &r) }
            return status
        }
        let wrongState = TDXStatus.eptEntryStateIncorrect.with(.rcx)
        if !permissions.allows(.memSeptAdd, on: state) { return refuse(wrongState, details: true) }
        // All ones: no L1 page is given, for a table that exists.
        if address == Self.noPage {
            if version == 0 { return refuse(.operandInvalid.with(.r8)) }
            if state != .tableMapped { return refuse(wrongState, details: true) }
        }
        var page: LockedPage?
        if state == .free {
            status = lockPrivate(address, .free, exclusive: true, .r8, into: &page)
            if page == nil { return refuse(status) }
        } else if address != Self.noPage {
            if !allowsExisting { return refuse(wrongState, details: true) }
            if version == 1 { r.r8 = address | Self.unusedMark }
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
            if version == 1 { r.r8 = Self.noPage }
        } else {
            entry.release(found.raw)
        }
        return .success
    }

    /// A page operand that names no page.
    static let noPage = UInt64.max
    /// Bit 63 of a returned page operand: the page was not used.
    static let unusedMark: UInt64 = 1 << 63

    private static func withoutMark(_ operand: UInt64) -> UInt64 {
        operand == noPage ? operand : operand & ~unusedMark
    }

    /// The first of R9 … R11 that names a page for a nested virtual machine. The model has none, so its number always
    /// exceeds NUM_L2_VMS.
    func nestedPageOperand(_ r: Registers) -> Operand? {
        for (value, operand) in [(r.r9, Operand.r9), (r.r10, .r10), (r.r11, .r11)] where value != Self.noPage {
            return operand
        }
        return nil
    }
}
