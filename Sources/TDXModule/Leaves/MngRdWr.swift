internal import MemoryUnits
internal import TDXStatusCodes

extension TDXModule {
    /// MNG.RD (reference §1.2): a metadata field of a trust domain. Version 1 also returns the next field id.
    func mngRd(_ r: inout Registers, version: UInt64) -> TDXStatus {
        let requested = FieldID(r.rdx)
        if version > 0 { r.rdx = FieldID.none.raw }
        r.r8 = 0
        if version > 1 { return .operandInvalid.with(.rax) }
        var access: TDAccess?
        let status = open(r.rcx, .rcx, for: .mngRd, .shared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        let reader: MetadataAccess = access.state.isDebug ? .debugger : .host
        let id = requested.inContext(.trustDomain)
        if version > 0, id.isNull {
            r.rdx = TrustDomainField.table.next(after: id, reader).raw
            return .metadataFirstFieldIDInContext
        }
        switch readTrustDomain(id, reader, access) {
        case .refused(let status): return status
        case .value(let value):
            r.r8 = value
            if version > 0 { r.rdx = TrustDomainField.table.next(after: id, reader).raw }
            return .success
        }
    }

    /// MNG.WR (reference §1.2): R8 under the mask R9; R8 becomes the former value.
    @inline(never)
    func mngWr(_ r: inout Registers) -> TDXStatus {
        let (id, value, mask) = (FieldID(r.rdx).inContext(.trustDomain), r.r8, r.r9)
        r.r8 = 0
        var access: TDAccess?
        let status = open(r.rcx, .rcx, for: .mngWr, .shared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        let writer: MetadataAccess = access.state.isDebug ? .debugger : .host
        switch writeTrustDomain(id, value, mask: mask, writer, access) {
        case .refused(let status): return status
        case .value(let old):
            r.r8 = old
            return .success
        }
    }
}
