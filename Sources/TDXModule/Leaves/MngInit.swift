internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MNG.INIT (reference §1.2): the trust domain's parameters.
    func mngInit(_ r: inout Registers) -> TDXStatus {
        let (root, parameters) = (r.rcx, r.rdx)
        r.rcx = 0
        if faults.takes(.cpuidLimit) { return .limitCPUIDMaxvalSet }
        var access: TDAccess?
        let status = open(root, .rcx, for: .mngInit, .exclusive, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard let buffer = sharedOperand(parameters, alignment: 1024) else { return .operandInvalid.with(.rdx) }
        let bytes = memory.bytes(buffer.address, count: 1024, key: buffer.key)
        let checked: TDParameters
        do {
            checked = try TDParameters(
                bytes, tdcxCount: access.state.tdcxCount, version: platform.version,
                processor: platform.processor, tscAdjustChanged: faults.takes(.tscAdjust))
        } catch {
            if let rcx = error.rcx { r.rcx = rcx }
            return error.status
        }
        access.td.details.measurement.begin()
        access.td.details.contents.withLock { contents in
            contents.parameters = checked
            contents.mrtd = [UInt8](repeating: 0, count: 48)
            contents.rtmrs = [[UInt8]](repeating: [UInt8](repeating: 0, count: 48), count: 4)
            contents.controls = checked.disablesVE ? TDContext.Contents.pendingVEDisable : 0
            contents.setHostPriorityTimeout(TDContext.Contents.defaultHostPriorityTimeout, platform.processor)
            contents.startVirtualTSC(at: timeStampCounter(), platform.processor)
        }
        let td = access.td
        td.pointee.epoch.set(1)
        td.pointee.inside.set(0)
        td.pointee.vcpus.set(0)
        td.pointee.forbiddenGPABits.set(checked.forbiddenGPABits)
        td.pointee.state.update(
            TDState.opStateMask | TDState.rootLevelMask | TDState.debugBit,
            to: UInt64(OperationState.initialized.rawValue) << 24 | checked.rootLevel << 48
                | (checked.isDebug ? TDState.debugBit : 0))
        return .success
    }
}
