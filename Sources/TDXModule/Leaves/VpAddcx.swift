internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// VP.ADDCX (reference §1.3): one more page of a vCPU's state.
    func vpAddcx(_ r: inout Registers) -> TDXStatus {
        let address = r.rcx
        var access: VCPUAccess?
        var status = openVCPU(r.rdx, .rdx, for: .vpAddcx, exclusive: true, .shared, into: &access)
        guard let access else { return status }
        defer { close(access) }
        let state = VCPUState(access.vcpu.pointee.state.get())
        guard state.condition == VCPUCondition.uninitialized.rawValue else { return .vcpuStateIncorrect }
        guard state.pages < 15 else { return .tdcxNumIncorrect }
        var page: LockedPage?
        status = lockPrivate(address, .free, exclusive: true, .rcx, into: &page)
        guard let page else { return status }
        memory.zeroPage(HostPhysicalAddress(address), key: access.owner.key)
        access.vcpu.pointee.state.update(VCPUState.pagesMask, to: UInt64(state.pages + 1) << 8)
        access.vcpu.details.contents.withLock { $0.pages.append(address) }
        access.owner.td.pointee.children.plus(1)
        unlock(page, as: .tdcx, owner: access.owner.address, second: 0)
        return .success
    }
}
