internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// TDG.MEM.PAGE.ATTR.RD (reference §2.2). Attributes are those of nested machines; without them they are 0.
    func tdgMemPageAttrRd(_ r: inout Registers, _ td: TD) -> TDCallOutcome {
        let gpa = r.rcx
        guard gpa & 0xFFF == 0, gpa >> 52 == 0, gpa & td.pointee.forbiddenGPABits.get() == 0 else {
            return .completed(.operandInvalid.with(.rcx))
        }
        let found = walk(td, gpa, to: 0, root: TDState(td.pointee.state.get()).rootLevel)
        let state = decode(found.raw)
        guard permissions.allows(.memPageAttrRd, on: state) else { return .exit(missing(gpa, write: false)) }
        showAttributes(gpa, found, state, &r)
        return .completed(.success)
    }

    /// TDG.MEM.PAGE.ATTR.WR (reference §2.2). L1's attributes can only be 0, and the model has no nested machines, so
    /// nothing but 0 is legal.
    func tdgMemPageAttrWr(_ r: inout Registers, _ vcpu: VCPU, _ td: TD) -> TDCallOutcome {
        let (target, attributes, mask) = (r.rcx, r.rdx, r.r8)
        let (level, gpa) = (target & 7, target & ~0xFFF)
        guard isLevelAndAddress(target, from: 0, to: 2), gpa & td.pointee.forbiddenGPABits.get() == 0 else {
            return .completed(.operandInvalid.with(.rcx))
        }
        if attributes != 0 { return .completed(.operandInvalid.with(.rdx)) }
        if mask != 0 { return .completed(.operandInvalid.with(.r8)) }
        let found = walk(td, gpa, to: level, root: TDState(td.pointee.state.get()).rootLevel)
        if found.raw & (Entry.lock | Entry.hostPriority) != 0 { return priorityBusy(vcpu, td, .rcx) }
        let state = decode(found.raw)
        if found.level != level {
            if Entry.isLeaf(found.raw), permissions.allows(.memPageAttrWr, on: state) {
                return .completed(.pageSizeMismatch.with(details: UInt32(found.level)))
            }
            return .exit(attributeExit(gpa, level, found))
        }
        if state == .tableMapped || state == .tableBlocked {
            return .completed(.pageSizeMismatch.with(details: UInt32(level)))
        }
        guard permissions.allows(.memPageAttrWr, on: state) else { return .exit(attributeExit(gpa, level, found)) }
        showAttributes(gpa, found, state, &r)
        return .completed(.success)
    }

    private func showAttributes(_ gpa: UInt64, _ found: Walk, _ state: EntryState, _ r: inout Registers) {
        r.rcx = found.level | gpa | (found.raw & Entry.pending != 0 ? 1 << 62 : 0)
        r.rdx = 0
    }

    private func attributeExit(_ gpa: UInt64, _ level: UInt64, _ found: Walk) -> TDExit {
        .eptViolation(
            gpa: GuestPhysicalAddress(gpa), qualification: 2,
            extended: ExtendedQualification(
                kind: .attributeWrite, requestedLevel: UInt8(level), entryLevel: UInt8(found.level),
                entryState: decode(found.raw).publicValue, isLeaf: Entry.isLeaf(found.raw)))
    }
}
