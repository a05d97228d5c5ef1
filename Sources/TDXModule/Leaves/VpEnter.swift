public import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// VP.ENTER (reference §1.3). With `staysInside` it ends at the guest's first instruction.
    @inline(never)
    func vpEnter(_ r: inout Registers, _ processor: LogicalProcessorID, staysInside: Bool) -> TDXStatus {
        let tdvpr = r.rcx & 0x000F_FFFF_FFFF_F000
        let status = enterGuest(&r, processor)
        // An exit in the guest's place is a success with a reason.
        if status != .success || staysInside { return status }
        return leave(.externalInterrupt, tdvpr, &r) ?? .success
    }

    private func enterGuest(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        let operand = r.rcx
        if faults.takes(.cpuidLimit) { return .limitCPUIDMaxvalSet }
        if operand & ~(Self.enterAddress | Self.recoverabilityHint | Self.resumeL1) != 0 {
            return .operandInvalid.with(.rcx)
        }
        var access: VCPUAccess?
        var status = openVCPU(
            operand & Self.enterAddress, exclusive: false, .tdrShared + .opStateShared + .epochShared, .rcx,
            into: &access)
        guard let access else { return status }
        let vcpu = access.vcpu
        let td = access.owner.td
        func refuse(_ status: TDXStatus) -> TDXStatus {
            close(access)
            return status
        }
        status = checkState(access.owner, .vpEnter, locksOpState: true)
        if !status.isSuccess { return refuse(status) }
        if VCPUState(vcpu.pointee.state.get()).pages < ModuleLimits.minimumVCPUPages {
            return refuse(.tdcxNumIncorrect)
        }
        // The vCPU stays associated whatever follows.
        status = associate(access, processor)
        if !status.isSuccess { return refuse(status) }
        let old = vcpu.pointee.state.get()
        let state = VCPUState(old)
        if operand & Self.recoverabilityHint != 0, state.lastExit != VCPUState.trapExit {
            return refuse(.operandInvalid.with(.rcx))
        }
        // Only an exit from a nested VM can be resumed to L1, and the model has none.
        if operand & Self.resumeL1 != 0 { return refuse(.operandInvalid.with(.rcx)) }
        if faults.takes(.tscAdjust) { return refuse(.inconsistentMSR.with(details: InconsistentMSR.tscAdjust)) }
        if faults.takes(.tscRollback) { return refuse(.tscRollback) }
        if access.owner.conflict & (Sharex.mask << TDLockRequest.epochShift) != 0 {
            return refuse(.operandBusy.with(.tdEpoch))
        }
        let stepping = vcpu.pointee.stepping.get()
        if stepping & SteppingState.listedMask != 0 {
            if let refusal = filterSteps(access, &r) { return refuse(refusal) }
        }
        if stepping & SteppingState.progress != 0 { vcpu.pointee.stepping.set(stepping & ~SteppingState.progress) }
        let active = old & ~VCPUState.conditionMask | UInt64(VCPUCondition.active.rawValue)
        if !vcpu.pointee.state.replace(old, by: active) { return refuse(.vcpuStateIncorrect) }
        let epoch = td.pointee.epoch.get()
        td.pointee.inside.plus(1 << (32 * (epoch & 1)))
        vcpu.pointee.epoch.set(epoch)
        // The guest runs with TDVPR and TDR shared; OP_STATE and the epoch are given back now.
        td.pointee.locks.minus(TDLockRequest.opStateShared.amount + TDLockRequest.epochShared.amount)
        answer(r, vcpu)
        return .success
    }

    /// RCX of VP.ENTER: TDVPR's page, the host's hint that a busy lock may be free now, and the wish to resume L1.
    private static let enterAddress: UInt64 = 0x000F_FFFF_FFFF_F000
    private static let recoverabilityHint: UInt64 = 1 << 52
    private static let resumeL1: UInt64 = 1 << 53

    /// A host that let a guest fault at one instruction over and over must first have mapped the pages that it met: else
    /// VP.ENTER exits at once, as if the guest had met one again. Nil to enter.
    private func filterSteps(_ access: VCPUAccess, _ r: inout Registers) -> TDXStatus? {
        let td = access.owner.td
        let tree: TDLockRequest = .treeExclusive
        if tryLock(td, tree) != 0 { return .operandBusy.with(.septTree) }
        defer { td.pointee.locks.minus(tree.amount) }
        let pages = access.vcpu.details.contents.withLock { $0.faultingPages }
        guard let page = pages.first(where: { isFaultExpected($0, access.owner) }) else { return nil }
        clearRegisters(&r, keepsRBP: true)
        let writeAccess: UInt64 = 2
        r.rcx = writeAccess
        r.r8 = page & ~0xFFF
        return .success.with(details: TDXModule.eptViolationReason)
    }

    static let eptViolationReason: UInt32 = 48

    private func isFaultExpected(_ gpa: UInt64, _ access: TDAccess) -> Bool {
        let found = walk(access.td, gpa, to: 0, root: access.state.rootLevel)
        let state = decode(found.raw)
        return !state.isIn(EntryState.accessibleLeafSet) || found.raw & Entry.rights != Entry.rights
    }

    /// Counts an EPT violation on a private page; many in a row without progress of the guest list the page.
    private func logStep(_ vcpu: VCPU, _ gpa: UInt64) {
        var state = vcpu.pointee.stepping.get()
        if state & SteppingState.progress != 0 {
            vcpu.details.contents.withLock { $0.faultingPages = [] }
            state = 0
        }
        if state & SteppingState.countMask < SteppingState.threshold {
            vcpu.pointee.stepping.set(state + 1)
            return
        }
        let listed = vcpu.details.contents.withLock { contents in
            if contents.faultingPages.count < SteppingState.maximumListed, !contents.faultingPages.contains(gpa) {
                contents.faultingPages.append(gpa)
            }
            return UInt64(contents.faultingPages.count)
        }
        vcpu.pointee.stepping.set(state & ~SteppingState.listedMask | listed << SteppingState.listedShift)
    }

    /// The guest got on: what it met before does not count as an attack.
    @inline(__always) func noteProgress(_ vcpu: VCPU) {
        let state = vcpu.pointee.stepping.get()
        if state & SteppingState.progress == 0 { vcpu.pointee.stepping.set(state | SteppingState.progress) }
    }

    /// All general registers but RAX are 0, as TD exits leave them.
    private func clearRegisters(_ r: inout Registers, keepsRBP: Bool = false) {
        let (rax, rbp) = (r.rax, r.rbp)
        r = Registers(rax: rax, rbp: keepsRBP ? rbp : 0)
    }

    /// The guest's registers after VMCALL: what it passed comes from the host, RAX is 0, the rest is its own.
    private func answer(_ host: Registers, _ vcpu: VCPU) {
        vcpu.details.contents.withLock { contents in
            guard var guest = contents.pendingVMCall else { return }
            copyPassed(guest.rcx, from: host, to: &guest)
            guest.rax = 0
            contents.answer = guest
            contents.pendingVMCall = nil
        }
    }

    /// Copies the general registers that a VMCALL mask names, but RAX, RCX and RSP.
    func copyPassed(_ mask: UInt64, from source: Registers, to target: inout Registers) {
        let paths: [(UInt64, WritableKeyPath<Registers, UInt64>)] = [
            (2, \.rdx), (3, \.rbx), (5, \.rbp), (6, \.rsi), (7, \.rdi), (8, \.r8), (9, \.r9), (10, \.r10),
            (11, \.r11), (12, \.r12), (13, \.r13), (14, \.r14), (15, \.r15),
        ]
        for (bit, path) in paths where mask >> bit & 1 != 0 { target[keyPath: path] = source[keyPath: path] }
    }

    /// The vCPU at a TDVPR page that is inside the guest now.
    func insideVCPU(_ tdvpr: UInt64) -> (vcpu: VCPU, td: TD)? {
        guard tdvpr & pamt.invalidBits == 0, pamt.isInitialized(tdvpr) else { return nil }
        let entry = pamt.entry(tdvpr, PageSizeCode.small)
        let word = entry.get()
        guard PageWord.type(word) == UInt64(PageType.tdvpr.rawValue) else { return nil }
        let vcpu = vcpuBlock(entry.at(1).get())
        guard VCPUState(vcpu.pointee.state.get()).condition == VCPUCondition.active.rawValue else { return nil }
        let root = pamt.entry(PageWord.owner(word), PageSizeCode.small)
        return (vcpu, tdBlock(root.at(1).get()))
    }

    /// A TD exit: the vCPU leaves the guest, its locks are given back, and registers hold the reason.
    func leave(_ exit: TDExit, _ tdvpr: UInt64, _ r: inout Registers) -> TDXStatus? {
        guard let (vcpu, td) = insideVCPU(tdvpr) else { return nil }
        let old = vcpu.pointee.state.get()
        var condition = VCPUCondition.ready
        var kind: UInt64 = 0
        let status: TDXStatus
        // A TD with NO_RBP_MOD leaves the host's RBP in VMCALL exits.
        var keepsRBP = false
        if case .vmcall = exit {
            keepsRBP = td.details.contents.withLock { $0.parameters.noRBPModification }
        }
        clearRegisters(&r, keepsRBP: keepsRBP)
        switch exit {
        case .externalInterrupt: status = .success.with(details: 1)
        case .halt:
            status = .success.with(details: 12)
            noteProgress(vcpu)
        case .eptViolation(let gpa, let qualification, let extended):
            status = .success.with(details: Self.eptViolationReason)
            r.rcx = qualification
            r.rdx = extended.rawValue
            r.r8 = gpa.rawValue & ~0xFFF
            let isAccess = extended.kind == .none || extended.kind == .pendingViolation
            if isAccess, gpa.rawValue & td.pointee.forbiddenGPABits.get() == 0 { logStep(vcpu, gpa.rawValue) }
        case .vmcall(let guest):
            status = .success.with(details: 77)
            kind = UInt64(VCPUState.vmcallExit)
            noteProgress(vcpu)
            r.rcx = guest.rcx
            copyPassed(guest.rcx, from: guest, to: &r)
            vcpu.details.contents.withLock { $0.pendingVMCall = guest }
        case .nonRecoverableVCPU(let reason):
            status = .nonRecoverableVCPU.with(details: reason)
            condition = .disabled
        case .nonRecoverableTD(let reason):
            status = .nonRecoverableTD.with(details: reason)
        case .machineCheck:
            status = .nonRecoverableTDNonAccessible.with(details: 41)
        case .hostPriorityTimeout:
            status = .hostPriorityBusyTimeout
            kind = UInt64(VCPUState.trapExit)
        }
        // The last exit stays what it was when the vCPU or its TD cannot go on.
        if status.isFatal || condition == .disabled { kind = UInt64(VCPUState(old).lastExit) }
        if status.isFatal { td.pointee.state.update(TDState.fatalBit, to: TDState.fatalBit) }
        let new =
            old & ~(VCPUState.conditionMask | VCPUState.lastExitMask) | UInt64(condition.rawValue) | kind << 16
        guard vcpu.pointee.state.replace(old, by: new) else { return nil }
        td.pointee.inside.minus(1 << (32 * (vcpu.pointee.epoch.get() & 1)))
        td.pointee.locks.minus(TDLockRequest.tdrShared.amount)
        pamt.entry(tdvpr, PageSizeCode.small).pointee.minus(Sharex.reader)
        r.rax = status.rawValue
        return status
    }

    /// The guest's registers after its VMCALL was answered by the last entry; nil when there was none, or when they
    /// were taken already.
    public func takeAnswer(vcpu tdvpr: HostPhysicalAddress) -> Registers? {
        guard let (vcpu, _) = insideVCPU(tdvpr.rawValue) else { return nil }
        return vcpu.details.contents.withLock { contents in
            defer { contents.answer = nil }
            return contents.answer
        }
    }
}
