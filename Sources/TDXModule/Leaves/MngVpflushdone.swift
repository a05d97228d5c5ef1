internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MNG.VPFLUSHDONE (reference §1.2): no vCPU is associated any more; the key can be flushed.
    func mngVpflushdone(_ r: inout Registers) -> TDXStatus {
        var access: TDAccess?
        let status = open(r.rcx, .tdrExclusive, tdr: .tdrExclusive, .rcx, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard keyTableLock.tryLock(exclusive: true) else { return .operandBusy.with(.kot) }
        defer { keyTableLock.unlock(exclusive: true) }
        guard access.state.lifecycle <= Lifecycle.keysConfigured.rawValue else { return .lifecycleStateIncorrect }
        let isInitialized = access.state.tdcxCount >= 6 && access.state.opState != 0
        if isInitialized, access.td.pointee.vcpus.get() >> 32 != 0 { return .flushvpNotDone }
        keys.withLock {
            $0[Int(access.state.key)] = KeyEntry(state: .flushed, writeBackBitmap: UInt32(allPackages))
        }
        access.td.pointee.state.update(TDState.lifecycleMask, to: UInt64(Lifecycle.blocked.rawValue))
        return .success
    }
}
