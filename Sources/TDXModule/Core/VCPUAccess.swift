internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

/// A vCPU that a call has opened: its TDVPR page locked, and its trust domain's TDR implicitly shared.
struct VCPUAccess {
    var vcpu: VCPU
    var page: LockedPage
    var owner: TDAccess
}

extension TDXModule {
    @inline(__always) func vcpuBlock(_ slot: UInt64) -> VCPU {
        (vcpuSlab.base + Int(truncatingIfNeeded: slot) * vcpuSlab.stride).assumingMemoryBound(to: VCPUBlock.self)
    }

    /// C-TDVPR and C-OWNER. `request` are the locks of the owner, among them TDR's.
    func openVCPU(
        _ address: UInt64, exclusive: Bool, _ request: TDLockRequest, tdr: TDLockRequest = .tdrShared,
        _ operand: Operand, into access: inout VCPUAccess?
    ) -> TDXStatus {
        var page: LockedPage?
        var status = lockPrivate(address, .tdvpr, exclusive: exclusive, operand, into: &page)
        guard let page else { return status }
        var owner: TDAccess?
        status = open(page.owner, request, tdr: tdr, .tdr, into: &owner)
        guard let owner else {
            unlock(page)
            return status
        }
        access = VCPUAccess(vcpu: vcpuBlock(page.entry.at(1).get()), page: page, owner: owner)
        return .success
    }

    func close(_ access: VCPUAccess) {
        access.owner.release()
        unlock(access.page)
    }

    /// C-TDVPR, C-OWNER and C-STATE, with which leaves on vCPUs begin; as `open` for leaves on trust domains.
    /// - Parameter exclusive: TDVPR's lock.
    @inline(__always)
    func openVCPU(
        _ tdvpr: UInt64, _ operand: Operand, for leaf: SeamcallLeaf, exclusive: Bool, _ locks: TDLocks,
        into access: inout VCPUAccess?
    ) -> TDXStatus {
        var opened: VCPUAccess?
        var status = openVCPU(
            tdvpr, exclusive: exclusive, locks.request, tdr: locks.tdr, operand, into: &opened)
        guard let opened else { return status }
        status = checkState(opened.owner, leaf, locksOpState: locks.hasOpState)
        if status.isSuccess { access = opened } else { close(opened) }
        return status
    }

    /// Binds a vCPU to the logical processor that calls, unless another has it. The vCPU must be ready, or disabled where
    /// that is allowed.
    func associate(_ access: VCPUAccess, _ processor: LogicalProcessorID, allowsDisabled: Bool = false) -> TDXStatus {
        while true {
            let old = access.vcpu.pointee.state.get()
            let state = VCPUState(old)
            let isReady = state.condition == VCPUCondition.ready.rawValue
            guard isReady || (allowsDisabled && state.condition == VCPUCondition.disabled.rawValue) else {
                return .vcpuStateIncorrect
            }
            if state.processor == processor.rawValue { return .success }
            if state.processor != VCPUState.noProcessor { return .vcpuAssociated }
            let new = old & ~VCPUState.processorMask | UInt64(processor.rawValue) << VCPUState.processorShift
            if access.vcpu.pointee.state.replace(old, by: new) {
                changeAssociated(access.owner.td, by: 1)
                return .success
            }
        }
    }

    /// One more or fewer vCPU that is associated with a logical processor.
    func changeAssociated(_ td: TD, by amount: Int) {
        td.pointee.vcpus.plus(UInt64(bitPattern: Int64(amount)) << 32)
    }
}
