internal import ControlInterface

extension Registry.Domain {
    /// The TD as `List` and `Show` give it, from the last figures that are known.
    ///
    /// - Parameters:
    ///   - remark: why the figures are old, for a holder that does not answer.
    ///   - fallbackBackend: what a TD that is still being built is reported with.
    func report(remark: String? = nil, fallbackBackend: Backend) -> TrustDomain {
        let reasons = [reason, remark].compactMap { $0 }
        let joined = reasons.isEmpty ? nil : reasons.joined(separator: "; ")
        if var known = lastKnown {
            known.state = state
            known.reason = joined ?? known.reason
            return known
        }
        let isGone = (state == .failed || state == .draining) && record.unreadable == nil
        return TrustDomain(
            name: record.name, id: record.id, state: state, reason: joined,
            backend: record.backend ?? fallbackBackend, memoryBytes: record.memoryBytes,
            privateBytes: isGone ? 0 : record.memoryBytes, sharedBytes: 0, convertingBytes: 0,
            residentPrivateBytes: nil,
            residentSharedBytes: nil, vcpus: record.vcpus, keyID: record.keyID, holderPID: record.holderPID ?? 0,
            mrtd: nil, firmware: record.firmware, createdAt: record.createdAt, ownerUID: record.ownerUID,
            kind: record.kind ?? .held)
    }
}
