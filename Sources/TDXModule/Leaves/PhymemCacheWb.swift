internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// Parts of a cache between which PHYMEM.CACHE.WB looks for interrupts.
    static let cacheBlocks = 16

    /// PHYMEM.CACHE.WB (reference §1.6): writes the package's caches back for the key ids that are flushed.
    func phymemCacheWb(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        let command = r.rcx
        if command > 1 { return .operandInvalid.with(.rcx) }
        let package = platform.package(of: processor)
        let isFirst = writeBacks.withLock { states in
            if states[package].isBusy { return false }
            states[package].isBusy = true
            return true
        }
        if !isFirst { return .operandBusy.with(.wbcache) }
        defer { writeBacks.withLock { $0[package].isBusy = false } }
        guard keyTableLock.tryLock(exclusive: false) else { return .operandBusy.with(.kot) }
        defer { keyTableLock.unlock(exclusive: false) }
        var state = writeBacks.withLock { $0[package] }
        if command == 0 {
            state.savedPoint = 0
            state.snapshot = keys.withLock { keys in
                keys.indices.filter { keys[$0].state == .flushed }.map { UInt16($0) }
            }
            writeBacks.withLock { [state] in $0[package] = state }
            if state.snapshot.isEmpty { return .noHKIDReadyToWbcache }
        } else if state.savedPoint == 0 {
            return .wbcacheResumeError
        }
        for block in state.savedPoint..<Self.cacheBlocks - 1 where faults.takes(.interrupt) {
            writeBacks.withLock { $0[package].savedPoint = block + 1 }
            return .interruptedResumable
        }
        writeBacks.withLock { $0[package].savedPoint = 0 }
        keys.withLock { keys in
            for key in state.snapshot { keys[Int(key)].writeBackBitmap &= ~(1 << UInt32(package)) }
        }
        return .success
    }
}
