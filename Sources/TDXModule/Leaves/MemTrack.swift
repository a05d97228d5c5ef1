internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.TRACK (reference §1.5): a new TLB epoch.
    func memTrack(_ r: inout Registers) -> TDXStatus {
        var access: TDAccess?
        let status = open(r.rcx, .rcx, for: .memTrack, .epochExclusive, into: &access)
        guard let access else { return status }
        defer { access.release() }
        if access.conflict & (Sharex.mask << TDLockRequest.epochShift) != 0 { return .operandBusy.with(.tdEpoch) }
        let epoch = access.td.pointee.epoch.get()
        if insideCount(access.td, parity: 1 - (epoch & 1)) != 0 { return .previousTLBEpochBusy }
        access.td.pointee.epoch.set(epoch + 1)
        return .success
    }
}
