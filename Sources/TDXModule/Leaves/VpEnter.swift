public import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// VP.ENTER (reference §1.3). With `staysInside` it ends at the guest's first instruction.
    func vpEnter(_ r: inout Registers, _ processor: LogicalProcessorID, staysInside: Bool) -> TDXStatus {
        let tdvpr = r.rcx & 0x000F_FFFF_FFFF_F000
        let status = enterGuest(&r, processor)
        if !status.isSuccess || staysInside { return status }
        return leave(.externalInterrupt, tdvpr, &r) ?? .success
    }

    private func enterGuest(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        let operand = r.rcx
        if faults.takes(.cpuidLimit) { return .limitCPUIDMaxvalSet }
        if operand & ~(0x000F_FFFF_FFFF_F000 | 3 << 52) != 0 { return .operandInvalid.with(.rcx) }
        var access: VCPUAccess?
        var status = openVCPU(
            operand & 0x000F_FFFF_FFFF_F000, exclusive: false, .tdrShared + .opStateShared + .epochShared, .rcx,
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
        let old = vcpu.pointee.state.get()
        let state = VCPUState(old)
        if state.pages < 6 { return refuse(.tdcxNumIncorrect) }
        if state.condition != VCPUCondition.ready.rawValue { return refuse(.vcpuStateIncorrect) }
        if state.processor != VCPUState.noProcessor, state.processor != processor.rawValue {
            return refuse(.vcpuAssociated)
        }
        if operand & 1 << 52 != 0, state.lastExit != 1 { return refuse(.operandInvalid.with(.rcx)) }
        // Bit 53 resumes the L1 machine; the model has no other, so it changes nothing.
        if faults.takes(.tscAdjust) { return refuse(.inconsistentMSR.with(details: 0x3B)) }
        if faults.takes(.tscRollback) { return refuse(.tscRollback) }
        if access.owner.conflict & (Sharex.mask << TDLockRequest.epochShift) != 0 {
            return refuse(.operandBusy.with(.tdEpoch))
        }
        let active =
            old & ~(VCPUState.conditionMask | VCPUState.processorMask) | UInt64(VCPUCondition.active.rawValue)
            | UInt64(processor.rawValue) << 32
        if !vcpu.pointee.state.replace(old, by: active) { return refuse(.vcpuStateIncorrect) }
        if state.processor == VCPUState.noProcessor { changeAssociated(td, by: 1) }
        let epoch = td.pointee.epoch.get()
        td.pointee.inside.plus(1 << (32 * (epoch & 1)))
        vcpu.pointee.epoch.set(epoch)
        // The guest runs with TDVPR and TDR shared; OP_STATE and the epoch are given back now.
        td.pointee.locks.minus(TDLockRequest.opStateShared.amount + TDLockRequest.epochShared.amount)
        answer(r, vcpu)
        return .success
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

    /// A TD exit: the vCPU leaves the guest, its locks are given back, and registers tell why.
    func leave(_ exit: TDExit, _ tdvpr: UInt64, _ r: inout Registers) -> TDXStatus? {
        guard let (vcpu, td) = insideVCPU(tdvpr) else { return nil }
        let old = vcpu.pointee.state.get()
        var condition = VCPUCondition.ready
        var kind: UInt64 = 0
        let status: TDXStatus
        r.rcx = 0
        r.rdx = 0
        r.r8 = 0
        r.r9 = 0
        switch exit {
        case .externalInterrupt: status = .success.with(details: 1)
        case .halt: status = .success.with(details: 12)
        case .eptViolation(let gpa, let qualification, let extended):
            status = .success.with(details: 48)
            r.rcx = qualification
            r.rdx = extended.rawValue
            r.r8 = gpa.rawValue & ~0xFFF
        case .vmcall(let guest):
            status = .success.with(details: 77)
            kind = 2
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
            kind = 1
        }
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
