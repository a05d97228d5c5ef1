internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// The order of checks before any leaf's own: reference §0.1.
    func dispatch(
        _ registers: inout Registers, _ processor: LogicalProcessorID, staysInside: Bool = false
    ) -> TDXStatus {
        precondition(processor.rawValue < processorCount, "the platform has no such logical processor")
        let status = call(&registers, processor, staysInside)
        registers.rax = status.rawValue
        return status
    }

    private func call(
        _ r: inout Registers, _ processor: LogicalProcessorID, _ staysInside: Bool
    ) -> TDXStatus {
        let rax = r.rax
        let refused = TDXStatus.operandInvalid.with(.rax)
        if rax & 0xFFFF_FFFF_FF00_0000 != 0 { return refused }
        let version = rax >> 16 & 0xFF
        let number = UInt16(truncatingIfNeeded: rax)
        if version != 0, !acceptsVersions(number) { return refused }
        let state = systemState.get()
        if state != SystemState.ready.rawValue {
            if state == SystemState.shutdown.rawValue {
                if number != SeamcallLeaf.sysLpShutdown.rawValue { return .sysShutdown }
            } else if !worksBeforeReady(number) {
                return .sysNotReady
            }
        }
        guard let leaf = SeamcallLeaf(rawValue: number) else { return refused }
        switch leaf {
        case .memPageAug: return memPageAug(&r)
        case .memRangeBlock: return memRangeBlock(&r)
        case .memPageRemove: return memPageRemove(&r)
        case .phymemPageReclaim: return phymemPageReclaim(&r)
        case .memTrack: return memTrack(&r)
        case .memRangeUnblock: return memRangeUnblock(&r)
        case .vpEnter: return vpEnter(&r, processor, staysInside: staysInside)
        case .mngAddcx: return mngAddcx(&r)
        case .memPageAdd: return memPageAdd(&r)
        case .memSeptAdd: return memSeptAdd(&r, version: version)
        case .vpAddcx: return vpAddcx(&r)
        case .memPageRelocate: return memPageRelocate(&r)
        case .mngKeyConfig: return mngKeyConfig(&r, processor)
        case .mngCreate: return mngCreate(&r)
        case .vpCreate: return vpCreate(&r)
        case .mngRd: return mngRd(&r, version: version)
        case .memRd: return memRd(&r)
        case .mngWr: return mngWr(&r)
        case .memWr: return memWr(&r)
        case .memPageDemote: return memPageDemote(&r)
        case .mrExtend: return mrExtend(&r)
        case .mrFinalize: return mrFinalize(&r)
        case .vpFlush: return vpFlush(&r, processor)
        case .mngVpflushdone: return mngVpflushdone(&r)
        case .mngKeyFreeid: return mngKeyFreeid(&r)
        case .mngInit: return mngInit(&r)
        case .vpInit: return vpInit(&r, processor, version: version)
        case .memPagePromote: return memPagePromote(&r, version: version)
        case .phymemPageRdmd: return phymemPageRdmd(&r)
        case .memSeptRd: return memSeptRd(&r)
        case .vpRd: return vpRd(&r, processor, version: version)
        case .mngKeyReclaimid: return .success
        case .memSeptRemove: return memSeptRemove(&r, version: version)
        case .sysKeyConfig: return sysKeyConfig(&r, processor)
        case .sysInfo: return sysInfo(&r, processor)
        case .sysInit: return sysInit(&r)
        case .sysRd: return sysRd(&r, processor)
        case .sysLpInit: return sysLpInit(&r, processor)
        case .sysTdmrInit: return sysTdmrInit(&r)
        case .sysRdall: return sysRdall(&r, processor)
        case .phymemCacheWb: return phymemCacheWb(&r, processor)
        case .phymemPageWbinvd: return phymemPageWbinvd(&r)
        case .vpWr: return vpWr(&r, processor)
        case .sysConfig: return sysConfig(&r, memory)
        case .sysShutdown: return sysShutdown(&r)
        case .sysLpShutdown: return .success
        case .sysUpdate: return sysUpdate(version: version)
        case .sysDisable: return sysDisable()
        case .phymemPamtAdd: return phymemPamtAdd(&r)
        case .phymemPamtRemove: return phymemPamtRemove(&r)
        }
    }

    /// Leaves that take a version above 0 (reference §0.1, step 2).
    private func acceptsVersions(_ number: UInt16) -> Bool {
        switch SeamcallLeaf(rawValue: number) {
        case .memPagePromote, .memSeptAdd, .memSeptRemove, .mngRd, .vpRd: true
        case .vpInit, .sysInit, .sysConfig, .sysUpdate: isLate
        case .vpEnter, .mngAddcx, .memPageAdd, .vpAddcx, .memPageRelocate, .memPageAug, .memRangeBlock, .mngKeyConfig,
            .mngCreate, .vpCreate, .memRd, .mngWr, .memWr, .memPageDemote, .mrExtend, .mrFinalize, .vpFlush,
            .mngVpflushdone, .mngKeyFreeid, .mngInit, .phymemPageRdmd, .memSeptRd, .mngKeyReclaimid, .phymemPageReclaim,
            .memPageRemove, .sysKeyConfig, .sysInfo, .sysRd, .sysLpInit, .sysTdmrInit, .sysRdall, .memTrack,
            .memRangeUnblock, .phymemCacheWb, .phymemPageWbinvd, .vpWr, .sysLpShutdown, .sysShutdown, .phymemPamtAdd,
            .phymemPamtRemove, .sysDisable, nil:
            false
        }
    }

    /// Leaves that work before the module is ready (reference §0.1, step 4).
    private func worksBeforeReady(_ number: UInt16) -> Bool {
        switch SeamcallLeaf(rawValue: number) {
        case .sysInfo, .sysInit, .sysRd, .sysRdall, .sysLpInit, .sysConfig, .sysKeyConfig, .sysLpShutdown, .sysUpdate:
            true
        // Linux calls it at power-off and kexec, whatever state the module is in.
        case .sysDisable: isLate
        case .vpEnter, .mngAddcx, .memPageAdd, .memSeptAdd, .vpAddcx, .memPageRelocate, .memPageAug, .memRangeBlock,
            .mngKeyConfig, .mngCreate, .vpCreate, .mngRd, .memRd, .mngWr, .memWr, .memPageDemote, .mrExtend,
            .mrFinalize,
            .vpFlush, .mngVpflushdone, .mngKeyFreeid, .mngInit, .vpInit, .memPagePromote, .phymemPageRdmd, .memSeptRd,
            .vpRd, .mngKeyReclaimid, .phymemPageReclaim, .memPageRemove, .memSeptRemove, .sysTdmrInit, .memTrack,
            .memRangeUnblock, .phymemCacheWb, .phymemPageWbinvd, .vpWr, .sysShutdown, .phymemPamtAdd, .phymemPamtRemove,
            nil:
            false
        }
    }
}
