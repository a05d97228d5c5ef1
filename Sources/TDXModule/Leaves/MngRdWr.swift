internal import MemoryUnits
internal import TDXStatusCodes

extension TDXModule {
    /// MNG.RD (reference §1.2): a metadata field of a trust domain. Version 1 also tells the next field id.
    func mngRd(_ r: inout Registers, version: UInt64) -> TDXStatus {
        if version > 1 { return .operandInvalid.with(.rax) }
        let id = r.rdx
        var access: TDAccess?
        var status = open(r.rcx, .tdrShared + .opStateShared, tdr: .tdrShared, .rcx, into: &access)
        guard let access else { return status }
        defer { access.release() }
        status = checkState(access, .mngRd, locksOpState: true)
        if !status.isSuccess { return status }
        if version == 1, id == .max {
            r.rdx = TrustDomainField.all[0].id
            return .metadataFirstFieldIDInContext
        }
        guard let place = TrustDomainField.places[id] else { return .metadataFieldIDIncorrect }
        r.r8 = TrustDomainField.all[place].read(self, access)
        if version == 1 {
            r.rdx = place + 1 < TrustDomainField.all.count ? TrustDomainField.all[place + 1].id : .max
        }
        return .success
    }

    /// MNG.WR (reference §1.2): R8 under the mask R9; R8 becomes the former value.
    func mngWr(_ r: inout Registers) -> TDXStatus {
        let (id, value, mask) = (r.rdx, r.r8, r.r9)
        var access: TDAccess?
        var status = open(r.rcx, .tdrShared + .opStateShared, tdr: .tdrShared, .rcx, into: &access)
        guard let access else { return status }
        defer { access.release() }
        status = checkState(access, .mngWr, locksOpState: true)
        if !status.isSuccess { return status }
        guard let place = TrustDomainField.places[id] else { return .metadataFieldIDIncorrect }
        let field = TrustDomainField.all[place]
        guard let write = field.write else { return .metadataFieldNotWritable }
        let old = field.read(self, access)
        guard write(access, old & ~mask | value & mask) else { return .metadataFieldValueNotValid }
        r.r8 = old
        return .success
    }
}
