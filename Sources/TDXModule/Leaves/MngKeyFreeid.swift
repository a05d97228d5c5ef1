internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MNG.KEY.FREEID (reference §1.2): the key id is free for another trust domain.
    func mngKeyFreeid(_ r: inout Registers) -> TDXStatus {
        var access: TDAccess?
        let status = open(r.rcx, .tdrExclusive, tdr: .tdrExclusive, .rcx, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard access.state.lifecycle == Lifecycle.blocked.rawValue else { return .lifecycleStateIncorrect }
        guard keyTableLock.tryLock(exclusive: true) else { return .operandBusy.with(.kot) }
        defer { keyTableLock.unlock(exclusive: true) }
        let isWrittenBack = keys.withLock { keys in
            guard keys[Int(access.state.key)].writeBackBitmap == 0 else { return false }
            keys[Int(access.state.key)] = KeyEntry()
            return true
        }
        guard isWrittenBack else { return .wbcacheNotComplete }
        access.td.pointee.state.update(TDState.lifecycleMask, to: UInt64(Lifecycle.teardown.rawValue))
        return .success
    }
}
