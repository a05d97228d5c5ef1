internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// TDG.MEM.PAGE.ATTR.RD (reference §2.2). Attributes are those of nested machines; without them they are 0.
    func tdgMemPageAttrRd(_ r: inout Registers, _ vcpu: VCPU, _ td: TD) -> TDCallOutcome {
        let gpa = r.rcx
        (r.rcx, r.rdx) = (0, 0)
        guard gpa >> 52 == 0, gpa & td.pointee.forbiddenGPABits.get() == 0 else {
            return .completed(.operandInvalid.with(.rcx))
        }
        var found = walk(td, gpa, to: 0, root: TDState(td.pointee.state.get()).rootLevel)
        guard lockForGuest(&found) else { return busy(found.raw, vcpu, td, .rcx) }
        vcpu.pointee.priorityWaitSince.set(0)
        defer { LockedEntry(entry: found.entry).release(found.raw) }
        guard permissions.allows(.memPageAttrRd, on: decode(found.raw)) else {
            r.rcx = gpa
            return .exit(.eptViolation(gpa: GuestPhysicalAddress(gpa & ~0xFFF), qualification: 0, extended: .none))
        }
        let mask = (UInt64(1) << (12 + 9 * found.level)) - 1
        r.rcx = found.level | gpa & ~mask | Self.pendingFlag(found.raw)
        return .completed(.success)
    }

    /// TDG.MEM.PAGE.ATTR.WR (reference §2.2). L1's attributes can only be 0, and the model has no nested machines, so
    /// nothing but 0 is legal.
    func tdgMemPageAttrWr(_ r: inout Registers, _ vcpu: VCPU, _ td: TD) -> TDCallOutcome {
        let (target, attributes, flags) = (r.rcx, r.rdx, r.r8)
        func refuse(_ status: TDXStatus) -> TDCallOutcome {
            (r.rcx, r.rdx) = (0, 0)
            return .completed(status)
        }
        // By VM: 16 bits of attributes and of flags each, of L1 first.
        for vm in 0..<UInt64(4) {
            if attributes >> (16 * vm) & 0xFFFF != 0 { return refuse(.operandInvalid.with(.rdx)) }
            if flags >> (16 * vm) & 0xFFFF != 0 { return refuse(.operandInvalid.with(.r8)) }
        }
        let (level, gpa) = (target & 7, target & ~0xFFF)
        guard isLevelAndAddress(target, from: 0, to: 2), gpa & td.pointee.forbiddenGPABits.get() == 0 else {
            return refuse(.operandInvalid.with(.rcx))
        }
        var found = walk(td, gpa, to: level, root: TDState(td.pointee.state.get()).rootLevel)
        if found.level != level { return .exit(attributeExit(gpa, level, found)) }
        guard lockForGuest(&found) else {
            (r.rcx, r.rdx) = (0, 0)
            return busy(found.raw, vcpu, td, .rcx)
        }
        vcpu.pointee.priorityWaitSince.set(0)
        defer { LockedEntry(entry: found.entry).release(found.raw) }
        let state = decode(found.raw)
        if state != .free, !Entry.isLeaf(found.raw) {
            return refuse(.pageSizeMismatch.with(details: UInt32(level)))
        }
        guard permissions.allows(.memPageAttrWr, on: state) else { return .exit(attributeExit(gpa, level, found)) }
        r.rcx = target | Self.pendingFlag(found.raw)
        r.rdx = 0
        return .completed(.success)
    }

    /// Bit 62 of RCX: the page waits to be accepted.
    private static func pendingFlag(_ raw: UInt64) -> UInt64 { raw & Entry.pending != 0 ? 1 << 62 : 0 }

    private func attributeExit(_ gpa: UInt64, _ level: UInt64, _ found: Walk) -> TDExit {
        .eptViolation(
            gpa: GuestPhysicalAddress(gpa), qualification: 2,
            extended: ExtendedQualification(
                kind: .attributeWrite, requestedLevel: UInt8(level), entryLevel: UInt8(found.level),
                entryState: decode(found.raw).publicValue, isLeaf: Entry.isLeaf(found.raw)))
    }
}
