internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// SYS.INIT (reference §1.7).
    func sysInit(_ r: inout Registers) -> TDXStatus {
        guard systemLock.tryLock(exclusive: true) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: true) }
        if r.rcx != 0 { return .operandInvalid.with(.rcx) }
        guard systemState.get() == SystemState.initPending.rawValue else { return .sysInitNotPending }
        systemState.set(SystemState.initDone.rawValue)
        return .success
    }

    /// SYS.LP.INIT (reference §1.7): once on every logical processor.
    func sysLpInit(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        guard systemLock.tryLock(exclusive: false) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: false) }
        guard systemState.get() == SystemState.initDone.rawValue else { return .sysLPInitNotPending }
        let isNew = system.withLock { $0.processorsInitialized.insert(processor.rawValue).inserted }
        return isNew ? .success : .sysLPInitDone
    }

    /// SYS.SHUTDOWN (reference §1.7). The model hands nothing over, so the one legal handoff version is 0.
    func sysShutdown(_ r: inout Registers) -> TDXStatus {
        guard systemLock.tryLock(exclusive: true) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: true) }
        if r.rcx != 0 { return .operandInvalid.with(.rcx) }
        systemState.set(SystemState.shutdown.rawValue)
        return .success
    }
}
