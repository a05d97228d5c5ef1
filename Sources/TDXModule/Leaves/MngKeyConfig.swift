internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MNG.KEY.CONFIG (reference §1.2): the trust domain's key on the package that the processor belongs to.
    func mngKeyConfig(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        var access: TDAccess?
        let status = open(r.rcx, .tdrExclusive, tdr: .tdrExclusive, .rcx, into: &access)
        guard let access else { return status }
        defer { access.release() }
        if access.state.isFatal { return .tdFatal }
        guard access.state.lifecycle == Lifecycle.keyAssigned.rawValue else { return .lifecycleStateIncorrect }
        let package: UInt64 = 1 << UInt64(platform.package(of: processor))
        let context = access.td.details
        if context.contents.withLock({ $0.packagesConfigured & package != 0 }) { return .keyConfigured }
        guard keyUnitLock.tryLock(exclusive: true) else { return .operandBusy.with(.ket) }
        defer { keyUnitLock.unlock(exclusive: true) }
        if faults.takes(.keyGeneration) { return .keyGenerationFailed }
        let configured = context.contents.withLock { contents in
            contents.packagesConfigured |= package
            return contents.packagesConfigured
        }
        if configured == allPackages {
            access.td.pointee.state.update(TDState.lifecycleMask, to: UInt64(Lifecycle.keysConfigured.rawValue))
        }
        return .success
    }
}
