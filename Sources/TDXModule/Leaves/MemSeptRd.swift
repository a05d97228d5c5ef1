internal import MemoryUnits
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.SEPT.RD (reference §1.5): an entry as hardware's architecture defines it, its level and state.
    func memSeptRd(_ r: inout Registers) -> TDXStatus {
        let (target, operand) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        let wantsAttributes = operand & 1 != 0
        var access: TDAccess?
        var status = open(operand & ~1, .rdx, for: .memSeptRd, .treeShared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        if wantsAttributes, !access.state.isDebug { return .operandInvalid.with(.rdx) }
        guard let (found, entry) = findAndLock(target, from: 0, to: access.state.rootLevel, access, &r, &status) else {
            return status
        }
        entry.release(found.raw)
        report(found, &r)
        r.r8 = 0
        return .success
    }
}
