internal import MemoryUnits
internal import TDXStatusCodes

/// The host's calls (reference §1.1). Numbers that the module knows but this model does not are absent: they are
/// refused with `OPERAND_INVALID|RAX` like unknown ones.
@frozen
public enum SeamcallLeaf: UInt16, Hashable, Sendable, CaseIterable {
    case vpEnter = 0
    case mngAddcx = 1
    case memPageAdd = 2
    case memSeptAdd = 3
    case vpAddcx = 4
    case memPageRelocate = 5
    case memPageAug = 6
    case memRangeBlock = 7
    case mngKeyConfig = 8
    case mngCreate = 9
    case vpCreate = 10
    case mngRd = 11
    case memRd = 12
    case mngWr = 13
    case memWr = 14
    case memPageDemote = 15
    case mrExtend = 16
    case mrFinalize = 17
    case vpFlush = 18
    case mngVpflushdone = 19
    case mngKeyFreeid = 20
    case mngInit = 21
    case vpInit = 22
    case memPagePromote = 23
    case phymemPageRdmd = 24
    case memSeptRd = 25
    case vpRd = 26
    case mngKeyReclaimid = 27
    case phymemPageReclaim = 28
    case memPageRemove = 29
    case memSeptRemove = 30
    case sysKeyConfig = 31
    case sysInfo = 32
    case sysInit = 33
    case sysRd = 34
    case sysLpInit = 35
    case sysTdmrInit = 36
    case sysRdall = 37
    case memTrack = 38
    case memRangeUnblock = 39
    case phymemCacheWb = 40
    case phymemPageWbinvd = 41
    case vpWr = 43
    /// Kept for hosts of earlier modules; does nothing.
    case sysLpShutdown = 44
    case sysConfig = 45
    case sysShutdown = 52
    case sysUpdate = 53
    case phymemPamtAdd = 58
    case phymemPamtRemove = 59
    /// [late]
    case sysDisable = 69

    /// The name as the module's documentation spells it, such as `TDH.MEM.PAGE.AUG`.
    public var name: String { row.name.description }
}

/// Everything about one of the host's leaves but its handler.
struct LeafRow: Sendable {
    let name: StaticString
    /// Where the call names the pages that it locks.
    let locks: LeafOperands
    /// In which operation states the leaf is permitted, columns 0 … 10 (reference §4.4); nil where the leaf does not ask.
    var operation: StaticString?
    /// On which states of the Secure-EPT entry, columns `EntryState` 0 … 15 (reference §6.3); nil where it does not ask.
    var entry: StaticString?
    /// The leaf takes versions above 0 (reference §0.1, step 2). Which of them exist is the handler's to check.
    var laterVersions = Availability.never
    /// The leaf works before the module is ready (reference §0.1, step 4).
    var beforeReady = Availability.never
    /// What the leaf reads of host memory, for recordings.
    var reads = HostReads.nothing

    /// Some properties differ between the two versions of the module that the model knows.
    enum Availability: Sendable {
        case never, late, always
    }

    enum HostReads: Sendable {
        case nothing
        /// A buffer of so many bytes, aligned to its own size.
        case buffer(LeafOperands.Place, bytes: Int)
        /// SYS.CONFIG's list of pointers, and what they point to.
        case tdmrs
    }
}

/// Where a leaf's call names a page whose lock it takes: the TDR page, the TDVPR page, the page that it would assign or
/// looks at.
struct LeafOperands: Sendable {
    enum Place: Sendable {
        case rcx, rdx, r8, r9
        /// RCX without flags: bits 51:12.
        case rcxAddress
        /// RDX without the flag in bit 0.
        case rdxWithoutFlag

        func value(_ r: Registers) -> UInt64 {
            switch self {
            case .rcx: r.rcx
            case .rdx: r.rdx
            case .r8: r.r8
            case .r9: r.r9
            case .rcxAddress: r.rcx & 0x000F_FFFF_FFFF_F000
            case .rdxWithoutFlag: r.rdx & ~1
            }
        }
    }

    var tdr: Place?
    var tdvpr: Place?
    var page: Place?

    static var none: Self { Self() }
}

/// What a handler gets beside the registers.
struct LeafCall {
    let processor: LogicalProcessorID
    let rax: UInt64
    /// VP.ENTER ends at the guest's first instruction.
    let staysInside: Bool

    var version: UInt64 { rax >> 16 & 0xFF }
}

extension SeamcallLeaf {
    /// The leaf's row.
    var row: LeafRow { withRow { row, _ in row } }

    /// Passes the leaf's row and handler to `use`; the compiler wants both for every leaf. `use` is inlined into every case,
    /// so that a call finds its handler without looking at the row. A handler that the optimiser would inline, too, is
    /// marked `@inline(never)`: the dispatch of all leaves would be slower.
    @inline(__always)
    func withRow<Result>(
        _ use: (LeafRow, (TDXModule, inout Registers, LeafCall) -> TDXStatus) -> Result
    ) -> Result {
        switch self {
        case .vpEnter:
            use(
                LeafRow(
                    name: "TDH.VP.ENTER", locks: LeafOperands(tdvpr: .rcxAddress), operation: ". . x x . . . . . x .")
            ) { module, r, call in
                module.vpEnter(&r, call.processor, staysInside: call.staysInside)
            }
        case .mngAddcx:
            use(
                LeafRow(
                    name: "TDH.MNG.ADDCX", locks: LeafOperands(tdr: .rdx, page: .rcx),
                    operation: "x . . . . . . . . . .")
            ) { module, r, _ in
                module.mngAddcx(&r)
            }
        case .memPageAdd:
            use(
                LeafRow(
                    name: "TDH.MEM.PAGE.ADD", locks: LeafOperands(tdr: .rdxWithoutFlag, page: .r8),
                    operation: ". x . . . . . . . . .", entry: "x . . . . . . . . . . . . . . .",
                    reads: .buffer(.r9, bytes: 4096))
            ) { module, r, _ in
                module.memPageAdd(&r)
            }
        case .memSeptAdd:
            use(
                LeafRow(
                    name: "TDH.MEM.SEPT.ADD", locks: LeafOperands(tdr: .rdxWithoutFlag, page: .r8),
                    operation: ". x x x . . x x x x .", entry: "x . x . . . . . . . . . . . . .",
                    laterVersions: .always)
            ) { module, r, call in
                module.memSeptAdd(&r, version: call.version)
            }
        case .vpAddcx:
            use(
                LeafRow(
                    name: "TDH.VP.ADDCX", locks: LeafOperands(tdvpr: .rdx, page: .rcx),
                    operation: ". x . . . . . x . . .")
            ) { module, r, _ in
                module.vpAddcx(&r)
            }
        case .memPageRelocate:
            use(
                LeafRow(
                    name: "TDH.MEM.PAGE.RELOCATE", locks: LeafOperands(tdr: .rdxWithoutFlag, page: .r8),
                    operation: ". x x x x x . . x x .", entry: ". . . . x x x x x x x x x x x x")
            ) { module, r, _ in
                module.memPageRelocate(&r)
            }
        case .memPageAug:
            use(
                LeafRow(
                    name: "TDH.MEM.PAGE.AUG", locks: LeafOperands(tdr: .rdxWithoutFlag, page: .r8),
                    operation: ". x x x . . . . . x .", entry: "x x . . . . . . . . . . . . . .")
            ) { module, r, _ in
                module.memPageAug(&r)
            }
        case .memRangeBlock:
            use(
                LeafRow(
                    name: "TDH.MEM.RANGE.BLOCK", locks: LeafOperands(tdr: .rdxWithoutFlag),
                    operation: ". x x x x x . . x x .", entry: ". . x . x . x . . . x . x . . .")
            ) { module, r, _ in
                module.memRangeBlock(&r)
            }
        case .mngKeyConfig:
            use(LeafRow(name: "TDH.MNG.KEY.CONFIG", locks: LeafOperands(tdr: .rcx))) { module, r, call in
                module.mngKeyConfig(&r, call.processor)
            }
        case .mngCreate:
            use(LeafRow(name: "TDH.MNG.CREATE", locks: LeafOperands(page: .rcx))) { module, r, _ in
                module.mngCreate(&r)
            }
        case .vpCreate:
            use(
                LeafRow(
                    name: "TDH.VP.CREATE", locks: LeafOperands(tdr: .rdx, page: .rcx),
                    operation: ". x . . . . . x . . .")
            ) { module, r, _ in
                module.vpCreate(&r)
            }
        case .mngRd:
            use(
                LeafRow(
                    name: "TDH.MNG.RD", locks: LeafOperands(tdr: .rcx), operation: ". x x x x x x x x x x",
                    laterVersions: .always)
            ) { module, r, call in
                module.mngRd(&r, version: call.version)
            }
        case .memRd:
            use(
                LeafRow(
                    name: "TDH.MEM.RD", locks: LeafOperands(tdr: .rdxWithoutFlag), operation: ". x x x x x x x x x x",
                    entry: ". . . . x . x x x x . . . . . .")
            ) { module, r, _ in
                module.memRd(&r)
            }
        case .mngWr:
            use(LeafRow(name: "TDH.MNG.WR", locks: LeafOperands(tdr: .rcx), operation: ". x x x . . x x x x x")) {
                module, r, _ in
                module.mngWr(&r)
            }
        case .memWr:
            use(
                LeafRow(
                    name: "TDH.MEM.WR", locks: LeafOperands(tdr: .rdxWithoutFlag), operation: ". x x x . . x x x x x",
                    entry: ". . . . x . . . x . . . . . . .")
            ) { module, r, _ in
                module.memWr(&r)
            }
        case .memPageDemote:
            use(
                LeafRow(
                    name: "TDH.MEM.PAGE.DEMOTE", locks: LeafOperands(tdr: .rdxWithoutFlag, page: .r8),
                    operation: ". x x x x x . . x x .", entry: ". . . . x x . . . . x x . . . .")
            ) { module, r, _ in
                module.memPageDemote(&r)
            }
        case .mrExtend:
            use(
                LeafRow(
                    name: "TDH.MR.EXTEND", locks: LeafOperands(tdr: .rdxWithoutFlag),
                    operation: ". x . . . . . . . . .", entry: ". . . . x . . . . . . . . . . .")
            ) { module, r, _ in
                module.mrExtend(&r)
            }
        case .mrFinalize:
            use(LeafRow(name: "TDH.MR.FINALIZE", locks: LeafOperands(tdr: .rcx), operation: ". x . . . . . . . . .")) {
                module, r, _ in
                module.mrFinalize(&r)
            }
        case .vpFlush:
            use(LeafRow(name: "TDH.VP.FLUSH", locks: LeafOperands(tdvpr: .rcx))) { module, r, call in
                module.vpFlush(&r, call.processor)
            }
        case .mngVpflushdone:
            use(LeafRow(name: "TDH.MNG.VPFLUSHDONE", locks: LeafOperands(tdr: .rcx))) { module, r, _ in
                module.mngVpflushdone(&r)
            }
        case .mngKeyFreeid:
            use(LeafRow(name: "TDH.MNG.KEY.FREEID", locks: LeafOperands(tdr: .rcx))) { module, r, _ in
                module.mngKeyFreeid(&r)
            }
        case .mngInit:
            use(
                LeafRow(
                    name: "TDH.MNG.INIT", locks: LeafOperands(tdr: .rcx), operation: "x . . . . . . . . . .",
                    reads: .buffer(.rdx, bytes: 1024))
            ) { module, r, _ in
                module.mngInit(&r)
            }
        case .vpInit:
            use(
                LeafRow(
                    name: "TDH.VP.INIT", locks: LeafOperands(tdvpr: .rcx), operation: ". x . . . . . . . . .",
                    laterVersions: .late)
            ) { module, r, call in
                module.vpInit(&r, call.processor, version: call.version)
            }
        case .memPagePromote:
            use(
                LeafRow(
                    name: "TDH.MEM.PAGE.PROMOTE", locks: LeafOperands(tdr: .rdxWithoutFlag),
                    operation: ". x x x x x . . x x .", entry: ". . x x . . . . . . . . . . . .",
                    laterVersions: .always)
            ) { module, r, call in
                module.memPagePromote(&r, version: call.version)
            }
        case .phymemPageRdmd:
            use(LeafRow(name: "TDH.PHYMEM.PAGE.RDMD", locks: LeafOperands(page: .rcx))) { module, r, _ in
                module.phymemPageRdmd(&r)
            }
        case .memSeptRd:
            use(
                LeafRow(
                    name: "TDH.MEM.SEPT.RD", locks: LeafOperands(tdr: .rdxWithoutFlag),
                    operation: ". x x x x x x x x x x", entry: "x x x x x x x x x x x x x x x x")
            ) { module, r, _ in
                module.memSeptRd(&r)
            }
        case .vpRd:
            use(
                LeafRow(
                    name: "TDH.VP.RD", locks: LeafOperands(tdvpr: .rcx), operation: ". x x x x x x x x x x",
                    laterVersions: .always)
            ) { module, r, call in
                module.vpRd(&r, call.processor, version: call.version)
            }
        case .mngKeyReclaimid: use(LeafRow(name: "TDH.MNG.KEY.RECLAIMID", locks: .none)) { _, _, _ in .success }
        case .phymemPageReclaim:
            use(LeafRow(name: "TDH.PHYMEM.PAGE.RECLAIM", locks: LeafOperands(page: .rcx))) { module, r, _ in
                module.phymemPageReclaim(&r)
            }
        case .memPageRemove:
            use(
                LeafRow(
                    name: "TDH.MEM.PAGE.REMOVE", locks: LeafOperands(tdr: .rdxWithoutFlag),
                    operation: ". x x x x x . . x x x", entry: ". . . . x x x . . . x x x . . .")
            ) { module, r, _ in
                module.memPageRemove(&r)
            }
        case .memSeptRemove:
            use(
                LeafRow(
                    name: "TDH.MEM.SEPT.REMOVE", locks: LeafOperands(tdr: .rdxWithoutFlag),
                    operation: ". x x x x x x x x x x", entry: ". . x x . . . . . . . . . . . .",
                    laterVersions: .always)
            ) { module, r, call in
                module.memSeptRemove(&r, version: call.version)
            }
        case .sysKeyConfig:
            use(LeafRow(name: "TDH.SYS.KEY.CONFIG", locks: .none, beforeReady: .always)) { module, r, call in
                module.sysKeyConfig(&r, call.processor)
            }
        case .sysInfo:
            use(LeafRow(name: "TDH.SYS.INFO", locks: .none, beforeReady: .always)) { module, r, call in
                module.sysInfo(&r, call.processor)
            }
        case .sysInit:
            use(LeafRow(name: "TDH.SYS.INIT", locks: .none, laterVersions: .late, beforeReady: .always)) {
                module, r, _ in
                module.sysInit(&r)
            }
        case .sysRd:
            use(LeafRow(name: "TDH.SYS.RD", locks: .none, beforeReady: .always)) { module, r, call in
                module.sysRd(&r, call.processor)
            }
        case .sysLpInit:
            use(LeafRow(name: "TDH.SYS.LP.INIT", locks: .none, beforeReady: .always)) { module, r, call in
                module.sysLpInit(&r, call.processor)
            }
        case .sysTdmrInit:
            use(LeafRow(name: "TDH.SYS.TDMR.INIT", locks: .none)) { module, r, _ in
                module.sysTdmrInit(&r)
            }
        case .sysRdall:
            use(LeafRow(name: "TDH.SYS.RDALL", locks: .none, beforeReady: .always)) { module, r, call in
                module.sysRdall(&r, call.processor)
            }
        case .memTrack:
            use(LeafRow(name: "TDH.MEM.TRACK", locks: LeafOperands(tdr: .rcx), operation: ". x x x x x x x x x .")) {
                module, r, _ in
                module.memTrack(&r)
            }
        case .memRangeUnblock:
            use(
                LeafRow(
                    name: "TDH.MEM.RANGE.UNBLOCK", locks: LeafOperands(tdr: .rdxWithoutFlag),
                    operation: ". x x x x x . . x x .", entry: ". . . x . x . . . . . x . . . .")
            ) { module, r, _ in
                module.memRangeUnblock(&r)
            }
        case .phymemCacheWb:
            use(LeafRow(name: "TDH.PHYMEM.CACHE.WB", locks: .none)) { module, r, call in
                module.phymemCacheWb(&r, call.processor)
            }
        case .phymemPageWbinvd:
            use(LeafRow(name: "TDH.PHYMEM.PAGE.WBINVD", locks: LeafOperands(page: .rcx))) { module, r, _ in
                module.phymemPageWbinvd(&r)
            }
        case .vpWr:
            use(LeafRow(name: "TDH.VP.WR", locks: LeafOperands(tdvpr: .rcx), operation: ". x x x . . x x x x x")) {
                module, r, call in
                module.vpWr(&r, call.processor)
            }
        case .sysLpShutdown:
            use(LeafRow(name: "TDH.SYS.LP.SHUTDOWN", locks: .none, beforeReady: .always)) { _, _, _ in
                .success
            }
        case .sysConfig:
            use(
                LeafRow(
                    name: "TDH.SYS.CONFIG", locks: .none, laterVersions: .late, beforeReady: .always, reads: .tdmrs)
            ) { module, r, _ in
                module.sysConfig(&r, module.memory)
            }
        case .sysShutdown:
            use(LeafRow(name: "TDH.SYS.SHUTDOWN", locks: .none)) { module, r, _ in
                module.sysShutdown(&r)
            }
        case .sysUpdate:
            use(LeafRow(name: "TDH.SYS.UPDATE", locks: .none, laterVersions: .late, beforeReady: .always)) {
                module, _, call in
                module.sysUpdate(version: call.version)
            }
        case .phymemPamtAdd:
            use(LeafRow(name: "TDH.PHYMEM.PAMT.ADD", locks: .none)) { module, r, _ in
                module.phymemPamtAdd(&r)
            }
        case .phymemPamtRemove:
            use(LeafRow(name: "TDH.PHYMEM.PAMT.REMOVE", locks: .none)) { module, r, _ in
                module.phymemPamtRemove(&r)
            }
        case .sysDisable:
            use(LeafRow(name: "TDH.SYS.DISABLE", locks: .none, beforeReady: .late)) { module, _, _ in
                module.sysDisable()
            }
        }
    }
}
