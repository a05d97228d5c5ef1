internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// PHYMEM.PAGE.RECLAIM (reference §1.6): takes a page from a trust domain whose key is gone.
    func phymemPageReclaim(_ r: inout Registers) -> TDXStatus {
        let address = r.rcx
        r.rcx = 0
        r.rdx = 0
        r.r8 = 0
        r.r9 = 0
        r.r10 = 0
        r.r11 = 0
        if address & pamt.invalidBits != 0 { return .operandInvalid.with(.rcx) }
        if !pamt.isInitialized(address) { return .operandAddrRangeError.with(.rcx) }
        var found: LockedPage?
        if let failure = lockSmall(address, exclusive: true, into: &found) {
            // Another size, or a free range without PAMT pages: look again for what is there.
            if failure == .busy || lockFound(address, exclusive: true, into: &found) != nil {
                return .operandBusy.with(.rcx)
            }
        }
        let page = found.unsafelyUnwrapped
        let type = page.type
        if type <= UInt64(PageType.reserved.rawValue) || type == UInt64(PageType.pamt.rawValue)
            || faults.takes(.pageMetadata)
        {
            unlock(page)
            return .pageMetadataIncorrect.with(.rcx)
        }
        r.rcx = type
        r.rdx = page.owner
        r.r8 = UInt64(page.size)
        if address & ((1 << (12 + 9 * UInt64(page.size))) - 1) != 0 {
            unlock(page)
            return .operandInvalid.with(.rcx)
        }
        if let td = page.td { return reclaimRoot(page, td) }
        var access: TDAccess?
        let status = open(page.owner, .tdrShared, tdr: .tdrShared, .tdr, into: &access)
        guard let access else {
            unlock(page)
            return status
        }
        guard access.state.lifecycle == Lifecycle.teardown.rawValue else {
            access.release()
            unlock(page)
            return .lifecycleStateIncorrect
        }
        access.td.pointee.children.minus(1 << (9 * UInt64(page.size)))
        // The owner's lock covers the control structures that go with the page.
        if type != UInt64(PageType.regular.rawValue) { discardControlPage(page, type) }
        free(page)
        access.release()
        if usesDynamicPAMT { r.r9 = removalHint(address) }
        return .success
    }

    private func discardControlPage(_ page: LockedPage, _ type: UInt64) {
        if type == UInt64(PageType.ept.rawValue) {
            tables.free(page.entry.at(1).get())
        } else if type == UInt64(PageType.tdvpr.rawValue) {
            let slot = page.entry.at(1).get()
            discardVCPU(vcpuBlock(slot))
            vcpuSlab.free(Int(slot))
        }
    }

    private func reclaimRoot(_ page: LockedPage, _ td: TD) -> TDXStatus {
        guard td.pointee.state.get() & TDState.lifecycleMask == UInt64(Lifecycle.teardown.rawValue) else {
            unlock(page)
            return .lifecycleStateIncorrect
        }
        guard td.pointee.children.get() == 0 else {
            unlock(page)
            return .tdAssociatedPagesExist
        }
        let slot = page.entry.at(1).get()
        let root = td.pointee.rootTable.get()
        if root != 0 { tables.free(root) }
        discardContext(td)
        free(page)
        td.pointee.locks.minus(Sharex.exclusive)
        tdSlab.free(Int(slot))
        return .success
    }

    func discardContext(_ td: TD) {
        guard let bits = UnsafeRawPointer(bitPattern: UInt(td.pointee.context.get())) else { return }
        td.pointee.context.set(0)
        Unmanaged<TDContext>.fromOpaque(bits).release()
    }

    func discardVCPU(_ vcpu: VCPU) {
        guard let bits = UnsafeRawPointer(bitPattern: UInt(vcpu.pointee.context.get())) else { return }
        vcpu.pointee.context.set(0)
        Unmanaged<VCPUContext>.fromOpaque(bits).release()
    }
}
