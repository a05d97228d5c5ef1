internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// SYS.CONFIG (reference §1.7): which memory may become private, and the module's own key id.
    func sysConfig(_ r: inout Registers, _ memory: any PhysicalMemory) -> TDXStatus {
        guard systemLock.tryLock(exclusive: true) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: true) }
        let initialized = system.withLock { $0.processorsInitialized.count }
        guard systemState.get() == SystemState.initDone.rawValue, initialized == platform.logicalProcessors else {
            return .sysConfigNotPending
        }
        let count = r.rdx
        guard let list = sharedOperand(r.rcx, alignment: 512) else { return .operandInvalid.with(.rcx) }
        guard (1...64).contains(count) else { return .operandInvalid.with(.rdx) }
        let wantsDynamic = r.r8 & 1 << 16 != 0 && isLate
        let key = r.r8 & ~(wantsDynamic ? 1 << 16 : 0)
        guard let keyID = UInt16(exactly: key), platform.privateKeyIDs.contains(keyID) else {
            return .operandInvalid.with(.r8)
        }
        // The key id stays reserved when a TDMR is refused.
        keys.withLock { $0[Int(keyID)].state = .reserved }
        system.withLock { $0.globalKey = keyID }
        var checks = TDMRChecks(platform, usesDynamicPAMT: wantsDynamic)
        for index in 0..<count {
            let pointer = memory.word(list.address + 8 * index, key: list.key)
            guard let info = sharedOperand(pointer, alignment: 512) else { return .operandInvalid.with(.rcx) }
            do {
                try checks.add((0..<40).map { memory.word(info.address + 8 * $0, key: info.key) })
            } catch { return error.status }
        }
        system.withLock { [checks] in $0.tdmrs = checks.accepted }
        parentWord.store(wantsDynamic ? UInt64(PageType.pamt.rawValue) << 16 : 0, ordering: .relaxed)
        systemState.set(SystemState.configDone.rawValue)
        return .success
    }

    /// SYS.KEY.CONFIG (reference §1.7): once on every package.
    func sysKeyConfig(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        guard systemLock.tryLock(exclusive: true) else { return .sysBusy }
        defer { systemLock.unlock(exclusive: true) }
        guard systemState.get() == SystemState.configDone.rawValue else { return .sysKeyConfigNotPending }
        let package: UInt64 = 1 << UInt64(platform.package(of: processor))
        if system.withLock({ $0.packagesConfigured & package != 0 }) { return .keyConfigured }
        guard keyUnitLock.tryLock(exclusive: true) else { return .operandBusy.with(.ket) }
        defer { keyUnitLock.unlock(exclusive: true) }
        if faults.takes(.keyGeneration) { return .keyGenerationFailed }
        let done = system.withLock { system in
            system.packagesConfigured |= package
            return system.packagesConfigured == allPackages
        }
        if done { systemState.set(SystemState.ready.rawValue) }
        return .success
    }

    /// C-SHARED: a host buffer with a shared key id; address and key apart (reference §0.4).
    func sharedOperand(_ value: UInt64, alignment: UInt64) -> (address: UInt64, key: KeyID)? {
        guard value >> 52 == 0, value % alignment == 0 else { return nil }
        let shift = 52 - UInt64(platform.keyIDBits)
        let key = value >> shift
        guard key <= UInt64(platform.mktmeKeys) else { return nil }
        return (value & (1 << shift - 1), KeyID(UInt16(key)))
    }
}
