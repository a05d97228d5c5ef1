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
    public var name: String {
        switch self {
        case .vpEnter: "TDH.VP.ENTER"
        case .mngAddcx: "TDH.MNG.ADDCX"
        case .memPageAdd: "TDH.MEM.PAGE.ADD"
        case .memSeptAdd: "TDH.MEM.SEPT.ADD"
        case .vpAddcx: "TDH.VP.ADDCX"
        case .memPageRelocate: "TDH.MEM.PAGE.RELOCATE"
        case .memPageAug: "TDH.MEM.PAGE.AUG"
        case .memRangeBlock: "TDH.MEM.RANGE.BLOCK"
        case .mngKeyConfig: "TDH.MNG.KEY.CONFIG"
        case .mngCreate: "TDH.MNG.CREATE"
        case .vpCreate: "TDH.VP.CREATE"
        case .mngRd: "TDH.MNG.RD"
        case .memRd: "TDH.MEM.RD"
        case .mngWr: "TDH.MNG.WR"
        case .memWr: "TDH.MEM.WR"
        case .memPageDemote: "TDH.MEM.PAGE.DEMOTE"
        case .mrExtend: "TDH.MR.EXTEND"
        case .mrFinalize: "TDH.MR.FINALIZE"
        case .vpFlush: "TDH.VP.FLUSH"
        case .mngVpflushdone: "TDH.MNG.VPFLUSHDONE"
        case .mngKeyFreeid: "TDH.MNG.KEY.FREEID"
        case .mngInit: "TDH.MNG.INIT"
        case .vpInit: "TDH.VP.INIT"
        case .memPagePromote: "TDH.MEM.PAGE.PROMOTE"
        case .phymemPageRdmd: "TDH.PHYMEM.PAGE.RDMD"
        case .memSeptRd: "TDH.MEM.SEPT.RD"
        case .vpRd: "TDH.VP.RD"
        case .mngKeyReclaimid: "TDH.MNG.KEY.RECLAIMID"
        case .phymemPageReclaim: "TDH.PHYMEM.PAGE.RECLAIM"
        case .memPageRemove: "TDH.MEM.PAGE.REMOVE"
        case .memSeptRemove: "TDH.MEM.SEPT.REMOVE"
        case .sysKeyConfig: "TDH.SYS.KEY.CONFIG"
        case .sysInfo: "TDH.SYS.INFO"
        case .sysInit: "TDH.SYS.INIT"
        case .sysRd: "TDH.SYS.RD"
        case .sysLpInit: "TDH.SYS.LP.INIT"
        case .sysTdmrInit: "TDH.SYS.TDMR.INIT"
        case .sysRdall: "TDH.SYS.RDALL"
        case .memTrack: "TDH.MEM.TRACK"
        case .memRangeUnblock: "TDH.MEM.RANGE.UNBLOCK"
        case .phymemCacheWb: "TDH.PHYMEM.CACHE.WB"
        case .phymemPageWbinvd: "TDH.PHYMEM.PAGE.WBINVD"
        case .vpWr: "TDH.VP.WR"
        case .sysConfig: "TDH.SYS.CONFIG"
        case .sysShutdown: "TDH.SYS.SHUTDOWN"
        case .sysUpdate: "TDH.SYS.UPDATE"
        case .sysLpShutdown: "TDH.SYS.LP.SHUTDOWN"
        case .sysDisable: "TDH.SYS.DISABLE"
        case .phymemPamtAdd: "TDH.PHYMEM.PAMT.ADD"
        case .phymemPamtRemove: "TDH.PHYMEM.PAMT.REMOVE"
        }
    }
}

/// The guest's calls (reference §2) that the model knows.
@frozen
public enum TDCallLeaf: UInt16, Hashable, Sendable, CaseIterable {
    case vpVmcall = 0
    case vpInfo = 1
    case mrRtmrExtend = 2
    case vpVeinfoGet = 3
    case mrReport = 4
    case memPageAccept = 6
    case vmRd = 7
    case vmWr = 8
    case vpRd = 9
    case vpWr = 10
    case sysRd = 11
    case sysRdall = 12
    case memPageAttrRd = 23
    case memPageAttrWr = 24

    /// The name as the module's documentation spells it, such as `TDG.MEM.PAGE.ACCEPT`.
    public var name: String {
        switch self {
        case .vpVmcall: "TDG.VP.VMCALL"
        case .vpInfo: "TDG.VP.INFO"
        case .mrRtmrExtend: "TDG.MR.RTMR.EXTEND"
        case .vpVeinfoGet: "TDG.VP.VEINFO.GET"
        case .mrReport: "TDG.MR.REPORT"
        case .memPageAccept: "TDG.MEM.PAGE.ACCEPT"
        case .vmRd: "TDG.VM.RD"
        case .vmWr: "TDG.VM.WR"
        case .vpRd: "TDG.VP.RD"
        case .vpWr: "TDG.VP.WR"
        case .sysRd: "TDG.SYS.RD"
        case .sysRdall: "TDG.SYS.RDALL"
        case .memPageAttrRd: "TDG.MEM.PAGE.ATTR.RD"
        case .memPageAttrWr: "TDG.MEM.PAGE.ATTR.WR"
        }
    }
}
