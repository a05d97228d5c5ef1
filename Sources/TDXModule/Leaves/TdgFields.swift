internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// TDG.VM.RD (reference §2): a field of the guest's own TD. Version 1 also returns the next field id.
    func tdgVmRd(_ r: inout Registers, _ vcpu: VCPU, _ td: TD, version: UInt64) -> TDCallOutcome {
        let (vm, id) = (r.rcx, FieldID(r.rdx).inContext(.trustDomain))
        if version > 0 { r.rdx = FieldID.none.raw }
        r.r8 = 0
        if version > 1 { return .completed(.operandInvalid.with(.rax)) }
        if vm != 0 { return .completed(.operandInvalid.with(.rcx)) }
        if version > 0, id.isNull {
            r.rdx = TrustDomainField.table.next(after: id, .guest).raw
            return .completed(.metadataFirstFieldIDInContext)
        }
        switch readTrustDomain(id, .guest, ownAccess(td)) {
        case .refused(let status): return .completed(status)
        case .value(let value):
            r.r8 = value
            if version > 0 { r.rdx = TrustDomainField.table.next(after: id, .guest).raw }
            return .completed(.success)
        }
    }

    /// TDG.VM.WR (reference §2): R8 under the mask R9; R8 becomes the former value.
    func tdgVmWr(_ r: inout Registers, _ vcpu: VCPU, _ td: TD) -> TDCallOutcome {
        let (vm, id, value, mask) = (r.rcx, FieldID(r.rdx).inContext(.trustDomain), r.r8, r.r9)
        r.r8 = 0
        if vm != 0 { return .completed(.operandInvalid.with(.rcx)) }
        switch writeTrustDomain(id, value, mask: mask, .guest, ownAccess(td)) {
        case .refused(let status): return .completed(status)
        case .value(let old):
            r.r8 = old
            return .completed(.success)
        }
    }

    /// TDG.VP.RD (reference §2): a field of the guest's own vCPU; RDX becomes the next field id.
    func tdgVpRd(_ r: inout Registers, _ vcpu: VCPU, _ td: TD) -> TDCallOutcome {
        let id = FieldID(r.rdx).inContext(.vcpu)
        r.rdx = FieldID.none.raw
        r.r8 = 0
        if r.rcx != 0 { return .completed(.operandInvalid.with(.rcx)) }
        if id.isNull {
            r.rdx = VCPUField.table.next(after: id, .guest).raw
            return .completed(.metadataFirstFieldIDInContext)
        }
        switch readVCPU(id, .guest, ownAccess(vcpu, td)) {
        case .refused(let status): return .completed(status)
        case .value(let value):
            r.r8 = value
            r.rdx = VCPUField.table.next(after: id, .guest).raw
            return .completed(.success)
        }
    }

    /// TDG.VP.WR (reference §2): R8 under the mask R9; R8 becomes the former value.
    func tdgVpWr(_ r: inout Registers, _ vcpu: VCPU, _ td: TD) -> TDCallOutcome {
        let (id, value, mask) = (FieldID(r.rdx).inContext(.vcpu), r.r8, r.r9)
        r.r8 = 0
        if r.rcx != 0 { return .completed(.operandInvalid.with(.rcx)) }
        switch writeVCPU(id, value, mask: mask, .guest, ownAccess(vcpu, td)) {
        case .refused(let status): return .completed(status)
        case .value(let old):
            r.r8 = old
            return .completed(.success)
        }
    }

    /// TDG.SYS.RD (reference §2): a field of the module; RDX becomes the next field id.
    func tdgSysRd(_ r: inout Registers) -> TDCallOutcome {
        let id = FieldID(r.rdx).inContext(.system)
        r.rdx = FieldID.none.raw
        r.r8 = 0
        if id.isNull {
            r.rdx = systemFields.next(after: id, .guest).raw
            return .completed(.metadataFirstFieldIDInContext)
        }
        switch readSystem(id, .guest) {
        case .refused(let status): return .completed(status)
        case .value(let value):
            r.r8 = value
            r.rdx = systemFields.next(after: id, .guest).raw
            return .completed(.success)
        }
    }

    /// TDG.SYS.RDALL (reference §2): the module's fields as a list in the private page at RDX, from the field R8 on.
    func tdgSysRdall(_ r: inout Registers, _ td: TD) -> TDCallOutcome {
        let (gpa, id) = (r.rdx, FieldID(r.r8).inContext(.system))
        r.r8 = FieldID.none.raw
        guard gpa & 0xFFF == 0, gpa >> 52 == 0, gpa & td.pointee.forbiddenGPABits.get() == 0 else {
            return .completed(.operandInvalid.with(.rdx))
        }
        guard let (target, key) = translate(gpa, td) else { return .exit(missing(gpa, td, write: true)) }
        guard let list = systemList(from: id, .guest) else { return .completed(.metadataFieldIDIncorrect) }
        memory.store(list.bytes, at: target, key: key)
        r.r8 = list.next.raw
        return .completed(list.next.isNull ? .success : .metadataListOverflow)
    }

    /// A running guest's own TD: TDR is held shared by the vCPU that is inside.
    private func ownAccess(_ td: TD) -> TDAccess {
        TDAccess(
            td: td, held: 0, conflict: 0, address: td.pointee.address.get(), state: TDState(td.pointee.state.get()))
    }

    private func ownAccess(_ vcpu: VCPU, _ td: TD) -> VCPUAccess {
        let address = vcpu.pointee.address.get()
        let page = LockedPage(
            entry: pamt.entry(address, PageSizeCode.small), word: 0, size: PageSizeCode.small, isExclusive: false,
            td: nil)
        return VCPUAccess(vcpu: vcpu, page: page, owner: ownAccess(td))
    }
}
