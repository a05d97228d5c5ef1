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
    public var name: String { row.name.description }
}

/// Everything about one of the guest's leaves but its handler.
struct GuestLeafRow: Sendable {
    let name: StaticString
    /// On which states of the Secure-EPT entry the leaf is permitted, columns `EntryState` 0 … 15 (reference §6.3); nil where
    /// it does not ask.
    var entry: StaticString?
    /// The leaf takes versions above 0. Which of them exist is the handler's to check.
    var hasLaterVersions = false
    /// What the leaf reads of the guest's memory, for recordings: where the call names it, and how many bytes.
    var reads: (place: LeafOperands.Place, bytes: Int)?
}

/// What a handler gets beside the registers: who calls.
struct GuestLeafCall {
    let vcpu: VCPU
    let td: TD
    let version: UInt64
}

extension TDCallLeaf {
    /// The leaf's row.
    var row: GuestLeafRow { withRow { row, _ in row } }

    /// Passes the leaf's row and handler to `use`, as `SeamcallLeaf.withRow` does.
    @inline(__always)
    func withRow<Result>(
        _ use: (GuestLeafRow, (TDXModule, inout Registers, GuestLeafCall) -> TDCallOutcome) -> Result
    ) -> Result {
        switch self {
        case .vpVmcall:
            use(GuestLeafRow(name: "TDG.VP.VMCALL")) { module, r, call in module.tdgVpVmcall(&r, call.td) }
        case .vpInfo:
            use(GuestLeafRow(name: "TDG.VP.INFO")) { module, r, call in module.tdgVpInfo(&r, call.vcpu, call.td) }
        case .mrRtmrExtend:
            use(GuestLeafRow(name: "TDG.MR.RTMR.EXTEND", reads: (.rcx, 48))) { module, r, call in
                module.tdgMrRtmrExtend(&r, call.td)
            }
        case .vpVeinfoGet:
            use(GuestLeafRow(name: "TDG.VP.VEINFO.GET")) { module, r, call in module.tdgVpVeinfoGet(&r, call.vcpu) }
        case .mrReport:
            use(GuestLeafRow(name: "TDG.MR.REPORT", reads: (.rdx, 64))) { module, r, call in
                module.tdgMrReport(&r, call.td)
            }
        case .memPageAccept:
            use(GuestLeafRow(name: "TDG.MEM.PAGE.ACCEPT", entry: ". . . . . . . . . . x . . . x .")) {
                module, r, call in
                module.tdgMemPageAccept(&r, call.vcpu, call.td)
            }
        case .vmRd:
            use(GuestLeafRow(name: "TDG.VM.RD", hasLaterVersions: true)) { module, r, call in
                module.tdgVmRd(&r, call.vcpu, call.td, version: call.version)
            }
        case .vmWr:
            use(GuestLeafRow(name: "TDG.VM.WR")) { module, r, call in module.tdgVmWr(&r, call.vcpu, call.td) }
        case .vpRd:
            use(GuestLeafRow(name: "TDG.VP.RD")) { module, r, call in module.tdgVpRd(&r, call.vcpu, call.td) }
        case .vpWr:
            use(GuestLeafRow(name: "TDG.VP.WR")) { module, r, call in module.tdgVpWr(&r, call.vcpu, call.td) }
        case .sysRd: use(GuestLeafRow(name: "TDG.SYS.RD")) { module, r, _ in module.tdgSysRd(&r) }
        case .sysRdall:
            use(GuestLeafRow(name: "TDG.SYS.RDALL")) { module, r, call in module.tdgSysRdall(&r, call.td) }
        case .memPageAttrRd:
            use(GuestLeafRow(name: "TDG.MEM.PAGE.ATTR.RD", entry: ". . . . x . x x x x x . x x x x")) {
                module, r, call in
                module.tdgMemPageAttrRd(&r, call.vcpu, call.td)
            }
        case .memPageAttrWr:
            use(GuestLeafRow(name: "TDG.MEM.PAGE.ATTR.WR", entry: ". . . . x . . . x . x . . . x .")) {
                module, r, call in
                module.tdgMemPageAttrWr(&r, call.vcpu, call.td)
            }
        }
    }
}
