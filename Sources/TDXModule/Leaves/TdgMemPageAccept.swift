internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// TDG.MEM.PAGE.ACCEPT (reference §2.1): the guest takes a pending page, which becomes zeros.
    func tdgMemPageAccept(_ r: inout Registers, _ vcpu: VCPU, _ td: TD) -> TDCallOutcome {
        let target = r.rcx
        let (level, gpa) = (target & 7, target & ~0xFFF)
        let state = TDState(td.pointee.state.get())
        guard isLevelAndAddress(target, from: 0, to: 1), gpa & td.pointee.forbiddenGPABits.get() == 0 else {
            return .completed(.operandInvalid.with(.rcx))
        }
        var found = walk(td, gpa, to: level, root: state.rootLevel)
        if found.level != level {
            if Entry.isLeaf(found.raw), decode(found.raw).isIn(EntryState.accessibleLeafSet) {
                return .completed(.pageAlreadyAccepted.with(details: UInt32(found.level)))
            }
            return .exit(acceptExit(gpa, level, found))
        }
        guard lockForGuest(&found) else { return busy(found.raw, vcpu, td, .rcx) }
        vcpu.pointee.priorityWaitSince.set(0)
        let entryState = decode(found.raw)
        func give(_ value: UInt64) { LockedEntry(entry: found.entry).release(value) }
        if entryState != .free, !Entry.isLeaf(found.raw) {
            give(found.raw)
            return .completed(.pageSizeMismatch.with(details: UInt32(level)))
        }
        if entryState.isIn(EntryState.accessibleLeafSet) {
            give(found.raw)
            return .completed(.pageAlreadyAccepted.with(details: UInt32(level)))
        }
        guard permissions.allows(.memPageAccept, on: entryState) else {
            give(found.raw)
            return .exit(acceptExit(gpa, level, found))
        }
        if level == 0 {
            memory.zeroPage(HostPhysicalAddress(Entry.address(found.raw)), key: KeyID(state.key))
        } else if let interrupted = zeroLarge(&found, KeyID(state.key)) {
            give(interrupted)
            return .exit(.externalInterrupt)
        }
        give(accepted(found.raw))
        return .completed(.success)
    }

    /// The entry after the guest took it: mapped, or exported-dirty when it was pending in that state.
    @inline(__always) private func accepted(_ raw: UInt64) -> UInt64 {
        raw & ~Entry.pending | Entry.rights
    }

    /// Zeroes the chunks that are left of a 2 MiB page. Nil when all is done; otherwise an interrupt is pending, and
    /// the result is the entry with its counter: the guest executes the call again and goes on.
    private func zeroLarge(_ found: inout Walk, _ key: KeyID) -> UInt64? {
        var chunk = found.raw >> Entry.acceptCounterShift & 0x1FF
        let base = Entry.address(found.raw) & ~0x1F_FFFF
        while chunk < 512 {
            memory.zeroPage(HostPhysicalAddress(base + chunk << 12), key: key)
            chunk += 1
            if chunk < 512, faults.takes(.interrupt) {
                return found.raw & ~Entry.acceptCounterMask | chunk << Entry.acceptCounterShift
            }
        }
        found.raw &= ~Entry.acceptCounterMask
        return nil
    }

    /// The guest's lock of an entry: refused while the host holds it or has asked for priority.
    @inline(__always) func lockForGuest(_ found: inout Walk) -> Bool {
        while true {
            let raw = found.raw
            if raw & (Entry.lock | Entry.hostPriority) != 0 { return false }
            if found.entry.replace(raw, by: raw | Entry.lock) { return true }
            found.raw = found.entry.get()
        }
    }

    /// What the guest gets for an entry that it could not lock: only the host's priority starts the timer.
    func busy(_ raw: UInt64, _ vcpu: VCPU, _ td: TD, _ operand: Operand) -> TDCallOutcome {
        raw & Entry.hostPriority == 0
            ? .completed(.operandBusy.with(operand)) : priorityBusy(vcpu, td, operand)
    }

    /// BUSY for the guest; after a time of nothing else, a TD exit (reference §7.3).
    func priorityBusy(_ vcpu: VCPU, _ td: TD, _ operand: Operand) -> TDCallOutcome {
        let now = max(1, clock())
        let since = vcpu.pointee.priorityWaitSince.get()
        if since == 0 {
            vcpu.pointee.priorityWaitSince.set(now)
        } else if now - min(now, since) > td.details.contents.withLock({ $0.hostPriorityTimeout(platform.processor) })
            * 1000
        {
            vcpu.pointee.priorityWaitSince.set(0)
            return .exit(.hostPriorityTimeout)
        }
        return .completed(.operandBusy.with(operand))
    }

    private func acceptExit(_ gpa: UInt64, _ level: UInt64, _ found: Walk) -> TDExit {
        .eptViolation(
            gpa: GuestPhysicalAddress(gpa), qualification: 2,
            extended: ExtendedQualification(
                kind: .accept, requestedLevel: UInt8(level), entryLevel: UInt8(found.level),
                entryState: decode(found.raw).publicValue, isLeaf: Entry.isLeaf(found.raw)))
    }
}
