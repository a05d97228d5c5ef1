internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// VP.RD (reference §1.3): a metadata field of a vCPU. Version 1 also returns the next field id.
    @inline(never)
    func vpRd(_ r: inout Registers, _ processor: LogicalProcessorID, version: UInt64) -> TDXStatus {
        let id = FieldID(r.rdx).inContext(.vcpu)
        if version > 0 { r.rdx = FieldID.none.raw }
        r.r8 = 0
        if version > 1 { return .operandInvalid.with(.rax) }
        return withFields(r.rcx, .vpRd, processor) { access, reader in
            if version > 0, id.isNull {
                r.rdx = VCPUField.table.next(after: id, reader).raw
                return .metadataFirstFieldIDInContext
            }
            switch readVCPU(id, reader, access) {
            case .refused(let status): return status
            case .value(let value):
                r.r8 = value
                if version > 0 { r.rdx = VCPUField.table.next(after: id, reader).raw }
                return .success
            }
        }
    }

    /// VP.WR (reference §1.3): R8 under the mask R9; R8 becomes the former value.
    @inline(never)
    func vpWr(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        let (id, value, mask) = (FieldID(r.rdx).inContext(.vcpu), r.r8, r.r9)
        r.r8 = 0
        return withFields(r.rcx, .vpWr, processor) { access, writer in
            switch writeVCPU(id, value, mask: mask, writer, access) {
            case .refused(let status): return status
            case .value(let old):
                r.r8 = old
                return .success
            }
        }
    }

    /// Opens a vCPU and associates it with the processor, which lasts whatever follows.
    private func withFields(
        _ tdvpr: UInt64, _ leaf: SeamcallLeaf, _ processor: LogicalProcessorID,
        _ body: (VCPUAccess, MetadataAccess) -> TDXStatus
    ) -> TDXStatus {
        var access: VCPUAccess?
        var status = openVCPU(tdvpr, .rcx, for: leaf, exclusive: false, .shared, into: &access)
        guard let access else { return status }
        defer { close(access) }
        let state = VCPUState(access.vcpu.pointee.state.get())
        guard state.pages >= ModuleLimits.minimumVCPUPages else { return .tdcxNumIncorrect }
        status = associate(access, processor, allowsDisabled: leaf == .vpRd)
        if !status.isSuccess { return status }
        return body(access, access.owner.state.isDebug ? .debugger : .host)
    }
}
