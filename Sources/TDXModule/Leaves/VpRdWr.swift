internal import MemoryUnits
internal import TDXStatusCodes

extension TDXModule {
    /// VP.RD (reference §1.1): the reference lists no field of a vCPU, so after the checks every id is unknown.
    func vpRd(_ r: inout Registers, version: UInt64) -> TDXStatus {
        version > 1 ? .operandInvalid.with(.rax) : vcpuField(r.rcx, .vpRd)
    }

    /// VP.WR, likewise.
    func vpWr(_ r: inout Registers) -> TDXStatus { vcpuField(r.rcx, .vpWr) }

    private func vcpuField(_ tdvpr: UInt64, _ leaf: SeamcallLeaf) -> TDXStatus {
        var access: VCPUAccess?
        var status = openVCPU(tdvpr, exclusive: false, .tdrShared + .opStateShared, .rcx, into: &access)
        guard let access else { return status }
        defer { close(access) }
        status = checkState(access.owner, leaf, locksOpState: true)
        return status.isSuccess ? .metadataFieldIDIncorrect : status
    }
}
