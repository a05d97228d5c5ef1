internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// SYS.INIT (reference §1.7).
    func sysInit(_ r: inout Registers) -> TDXStatus {
        let attributes = r.rcx
        (r.rcx, r.rdx, r.r8, r.r9, r.r10) = (0, 0, 0, 0, 0)
        guard systemLock.tryLock(exclusive: true) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: true) }
        if attributes != 0 { return .operandInvalid.with(.rcx) }
        guard systemState.get() == SystemState.initPending.rawValue else { return .sysInitNotPending }
        systemState.set(SystemState.initDone.rawValue)
        return .success
    }

    /// SYS.LP.INIT (reference §1.7): once on every logical processor.
    func sysLpInit(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        (r.rcx, r.rdx, r.r8) = (0, 0, 0)
        guard systemLock.tryLock(exclusive: false) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: false) }
        guard systemState.get() == SystemState.initDone.rawValue else { return .sysLPInitNotPending }
        let isNew = system.withLock { $0.processorsInitialized.insert(processor.rawValue).inserted }
        return isNew ? .success : .sysLPInitDone
    }

    /// SYS.SHUTDOWN (reference §1.7): the module's state is ready for another module, which SYS.UPDATE there takes on.
    func sysShutdown(_ r: inout Registers) -> TDXStatus {
        if r.rcx != ModuleBuild.handoffVersion { return .operandInvalid.with(.rcx) }
        guard systemLock.tryLock(exclusive: true) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: true) }
        systemState.set(SystemState.shutdown.rawValue)
        return .success
    }

    /// SYS.UPDATE (reference §1.7): takes on the state of the module that ran before. A module of the model is always the
    /// first one that was loaded, so nothing was handed to it.
    func sysUpdate(version: UInt64) -> TDXStatus {
        if version > 0 { return .operandInvalid.with(.rax) }
        guard systemLock.tryLock(exclusive: true) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: true) }
        let initialized = system.withLock { $0.processorsInitialized.count }
        guard systemState.get() == SystemState.initDone.rawValue, initialized == platform.logicalProcessors else {
            return .sysStateIncorrect
        }
        return .sysInvalidHandoff
    }

    /// SYS.DISABLE [late]: ends the module's service for good, as a host does before kexec and power-off. TDs and their
    /// keys end with it. Its published source is not at hand: status and effect are what Linux expects of it.
    func sysDisable() -> TDXStatus {
        guard isLate else { return .operandInvalid.with(.rax) }
        guard systemLock.tryLock(exclusive: true) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: true) }
        systemState.set(SystemState.shutdown.rawValue)
        return .success
    }
}
