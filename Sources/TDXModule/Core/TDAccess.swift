internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

/// A trust domain that a call has opened: the locks it holds, and those it could not get.
struct TDAccess {
    var td: TD
    /// What to subtract from `TDBlock.locks` at the end.
    var held: UInt64
    /// Bits of the locks that others hold: the call fails when it comes to the place where it needs them.
    var conflict: UInt64
    /// Host-physical address of TDR.
    var address: UInt64
    var state: TDState

    @inline(__always) func release() { td.pointee.locks.minus(held) }
    @inline(__always) var key: KeyID { KeyID(state.key) }
}

/// The locks of a trust domain that a leaf takes when it opens it.
struct TDLocks {
    /// All of them, in one request.
    let request: TDLockRequest
    /// TDR's alone.
    let tdr: TDLockRequest
    /// OP_STATE's is among them. Who has TDR exclusively needs no other.
    let hasOpState: Bool

    /// TDR exclusively.
    @inline(__always) static var exclusive: Self {
        Self(request: .tdrExclusive, tdr: .tdrExclusive, hasOpState: false)
    }
    /// TDR and OP_STATE shared.
    @inline(__always) static var shared: Self {
        Self(request: .tdrShared + .opStateShared, tdr: .tdrShared, hasOpState: true)
    }
    @inline(__always) static var treeShared: Self { shared.and(.treeShared) }
    @inline(__always) static var treeExclusive: Self { shared.and(.treeExclusive) }
    @inline(__always) static var epochExclusive: Self { shared.and(.epochExclusive) }

    @inline(__always) private func and(_ more: TDLockRequest) -> Self {
        Self(request: request + more, tdr: tdr, hasOpState: hasOpState)
    }
}

extension TDXModule {
    @inline(__always) func tdBlock(_ slot: UInt64) -> TD {
        (tdSlab.base + Int(truncatingIfNeeded: slot) * tdSlab.stride).assumingMemoryBound(to: TDBlock.self)
    }

    /// Takes all locks of a request at once. 0, or the bits that stood in the way.
    @inline(__always) func tryLock(_ td: TD, _ request: TDLockRequest) -> UInt64 {
        var old = td.pointee.locks.get()
        while true {
            let conflict = old & request.conflicts
            if conflict != 0 { return conflict }
            if td.pointee.locks.replace(old, by: old &+ request.amount) { return 0 }
            old = td.pointee.locks.get()
        }
    }

    /// C-TDR: finds the trust domain of a TDR operand and takes the locks of `request`, among them TDR's. When only
    /// others than TDR's are taken by another call, TDR's alone is held and `conflict` has which.
    @inline(__always)
    func open(
        _ address: UInt64, _ request: TDLockRequest, tdr: TDLockRequest, _ operand: Operand,
        into access: inout TDAccess?
    ) -> TDXStatus {
        if address & pamt.invalidBits == 0, pamt.isInitialized(address) {
            let entry = pamt.entry(address, PageSizeCode.small)
            let word = entry.get()
            if PageWord.type(word) == UInt64(PageType.tdr.rawValue) {
                let slot = entry.at(1).get()
                let td = tdBlock(slot)
                var held = request.amount
                var conflict = tryLock(td, request)
                if conflict != 0 {
                    if conflict & Sharex.mask != 0 { return .operandBusy.with(operand) }
                    held = tdr.amount
                    let own = tryLock(td, tdr)
                    if own != 0 { return .operandBusy.with(operand) }
                    conflict |= 1 << 63
                }
                if entry.get() == word, entry.at(1).get() == slot {
                    access = TDAccess(
                        td: td, held: held, conflict: conflict & ~(1 << 63), address: address,
                        state: TDState(td.pointee.state.get()))
                    return .success
                }
                td.pointee.locks.minus(held)
                return .operandBusy.with(operand)
            }
        }
        return refuseRoot(address, exclusive: tdr.conflicts != TDLockRequest.tdrShared.conflicts, operand)
    }

    /// C-TDR and C-STATE, with which most leaves begin: opens the trust domain of `root` and checks that its state permits
    /// the leaf. Nothing stays locked where `access` is nil; the result is the reason.
    @inline(__always)
    func open(
        _ root: UInt64, _ operand: Operand, for leaf: SeamcallLeaf, _ locks: TDLocks, into access: inout TDAccess?
    ) -> TDXStatus {
        var opened: TDAccess?
        var status = open(root, locks.request, tdr: locks.tdr, operand, into: &opened)
        guard let opened else { return status }
        status = checkState(opened, leaf, locksOpState: locks.hasOpState)
        if status.isSuccess { access = opened } else { opened.release() }
        return status
    }

    /// C-TDR's refusal of an address that is not a TDR page.
    @inline(never) private func refuseRoot(_ address: UInt64, exclusive: Bool, _ operand: Operand) -> TDXStatus {
        var page: LockedPage?
        let status = lockPrivate(address, .tdr, exclusive: exclusive, operand, into: &page)
        // It became a TDR page this very moment: answer as an instant before.
        if let page {
            unlock(page)
            return .operandBusy.with(operand)
        }
        return status
    }

    /// C-STATE: the gates that every leaf on an initialised trust domain passes (reference §0.4). `locksOpState` is
    /// whether the leaf takes OP_STATE's lock itself.
    @inline(__always)
    func checkState(_ access: TDAccess, _ leaf: SeamcallLeaf, locksOpState: Bool) -> TDXStatus {
        let state = access.state
        if !state.isOperational { return refuseState(state) }
        if locksOpState, access.conflict & (Sharex.mask << TDLockRequest.opStateShift) != 0 {
            return .operandBusy.with(.opState)
        }
        if !permissions.allows(leaf, inOperationState: state.opState) { return opStateIncorrect(state.opState) }
        return .success
    }

    @inline(never) func refuseState(_ state: TDState) -> TDXStatus {
        if state.isFatal { return .tdFatal }
        if state.lifecycle != Lifecycle.keysConfigured.rawValue { return .tdKeysNotConfigured }
        return .tdcsNotAllocated
    }

    /// OP_STATE_INCORRECT; [late] with the state in its low half.
    @inline(never) func opStateIncorrect(_ state: UInt8) -> TDXStatus {
        platform.version == .late ? .opStateIncorrect.with(details: UInt32(state)) : .opStateIncorrect
    }

    @inline(__always) func isTreeBusy(_ access: TDAccess) -> Bool {
        access.conflict & (Sharex.mask << TDLockRequest.treeShift) != 0
    }

    /// C-GPAINFO: level and address of RCX are well formed.
    @inline(__always) func isLevelAndAddress(_ value: UInt64, from least: UInt64, to most: UInt64) -> Bool {
        let level = value & 7
        guard value & 0xFFF0_0000_0000_0FF8 == 0, level >= least, level <= most else { return false }
        return value & (((1 << (12 + 9 * level)) - 1) & ~0xFFF) == 0
    }

    /// C-GPA: the address is private.
    @inline(__always) func isPrivate(_ gpa: UInt64, _ access: TDAccess) -> Bool {
        gpa & access.td.pointee.forbiddenGPABits.get() == 0
    }

    /// C-GPAINFO and C-WALK (reference §0.4): the entry that `target` names, at its level. Nil when a check fails; `status`
    /// has the reason, and RCX and RDX describe the entry where the walk stopped.
    @inline(__always)
    func find(
        _ target: UInt64, from least: UInt64, to most: UInt64, _ access: TDAccess, _ r: inout Registers,
        _ status: inout TDXStatus
    ) -> Walk? {
        let (level, gpa) = (target & 7, target & ~0xFFF)
        guard isLevelAndAddress(target, from: least, to: most), isPrivate(gpa, access) else {
            status = .operandInvalid.with(.rcx)
            return nil
        }
        if isTreeBusy(access) {
            status = .operandBusy.with(.septTree)
            return nil
        }
        let found = walk(access.td, gpa, to: level, root: access.state.rootLevel)
        guard found.level == level else {
            report(found, &r)
            status = .eptWalkFailed.with(.rcx)
            return nil
        }
        return found
    }

    /// `find`, and the entry's lock.
    @inline(__always)
    func findAndLock(
        _ target: UInt64, from least: UInt64, to most: UInt64, _ access: TDAccess, _ r: inout Registers,
        _ status: inout TDXStatus
    ) -> (found: Walk, entry: LockedEntry)? {
        guard let found = find(target, from: least, to: most, access, &r, &status) else { return nil }
        guard let entry = lockEntry(found, &r) else {
            status = .operandBusy.with(.rcx)
            return nil
        }
        return (found, entry)
    }

    /// `find` for a leaf that locks, changes and unlocks the entry in one step, by `commit`.
    @inline(__always)
    func findUnlocked(
        _ target: UInt64, from least: UInt64, to most: UInt64, _ access: TDAccess, _ r: inout Registers,
        _ status: inout TDXStatus
    ) -> Walk? {
        guard let found = find(target, from: least, to: most, access, &r, &status) else { return nil }
        if found.raw & Entry.lock != 0 {
            askForPriority(found, &r)
            status = .operandBusy.with(.rcx)
            return nil
        }
        return found
    }

    /// The status of a leaf that is not permitted on the entry's state, with RCX and RDX.
    @inline(__always) func wrongState(_ found: Walk, _ r: inout Registers) -> TDXStatus {
        report(found, &r)
        return .eptEntryStateIncorrect.with(.rcx)
    }

    /// Whether no vCPU can hold a translation from before `blocked` any more (reference §6.5).
    func isTracked(_ td: TD, blocked: UInt64) -> Bool {
        if blocked >> 63 != 0 { return false }
        let epoch = td.pointee.epoch.get()
        if blocked < epoch &- 1 { return true }
        return blocked == epoch &- 1 && insideCount(td, parity: blocked & 1) == 0
    }

    func insideCount(_ td: TD, parity: UInt64) -> UInt64 {
        td.pointee.inside.get() >> (parity * 32) & 0xFFFF_FFFF
    }

    /// C-TRACK for a leaf or table whose page was blocked at `blockEpoch`.
    @inline(__always)
    func checkTracked(
        _ access: TDAccess, _ walk: Walk, _ state: EntryState, blockEpoch: UInt64, _ registers: inout Registers
    ) -> TDXStatus {
        guard permissions.requiresTracking(state, inOperationState: access.state.opState) else { return .success }
        if !state.isIn(EntryState.blockedSet) {
            report(walk, &registers)
            return .gpaRangeNotBlocked.with(.rcx)
        }
        return isTracked(access.td, blocked: blockEpoch) ? .success : .tlbTrackingNotDone.with(.rcx)
    }
}
