internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// VP.CREATE (reference §1.3): a vCPU's root page (TDVPR).
    func vpCreate(_ r: inout Registers) -> TDXStatus {
        let address = r.rcx
        var access: TDAccess?
        var status = open(r.rdx, .rdx, for: .vpCreate, .shared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        var page: LockedPage?
        status = lockPrivate(address, .free, exclusive: true, .rcx, into: &page)
        guard let page else { return status }
        memory.zeroPage(HostPhysicalAddress(address), key: access.key)
        let slot = UInt64(vcpuSlab.allocate())
        let vcpu = vcpuBlock(slot)
        vcpu.pointee.state.set(UInt64(VCPUState.noProcessor) << 32 | 1 << 8)
        vcpu.pointee.epoch.set(0)
        vcpu.pointee.address.set(address)
        vcpu.pointee.priorityWaitSince.set(0)
        vcpu.pointee.stepping.set(0)
        let details = VCPUContext()
        details.contents.withLock { $0.pages = [address] }
        let context = Unmanaged.passRetained(details)
        vcpu.pointee.context.set(UInt64(UInt(bitPattern: context.toOpaque())))
        access.td.pointee.children.plus(1)
        unlock(page, as: .tdvpr, owner: access.address, second: slot)
        return .success
    }
}
