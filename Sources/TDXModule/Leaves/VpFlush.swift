internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// VP.FLUSH (reference §1.3): ends a vCPU's association with this logical processor.
    func vpFlush(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        var access: VCPUAccess?
        let status = openVCPU(r.rcx, exclusive: true, .tdrShared, .rcx, into: &access)
        guard let access else { return status }
        defer { close(access) }
        guard access.owner.state.lifecycle == Lifecycle.keysConfigured.rawValue else { return .tdKeysNotConfigured }
        let state = VCPUState(access.vcpu.pointee.state.get())
        guard state.pages >= 6 else { return .tdcxNumIncorrect }
        guard state.processor == processor.rawValue else { return .vcpuNotAssociated }
        access.vcpu.pointee.state.update(
            VCPUState.processorMask, to: UInt64(VCPUState.noProcessor) << 32)
        changeAssociated(access.owner.td, by: -1)
        return .success
    }
}
