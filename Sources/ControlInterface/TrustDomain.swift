extension TrustDomain {
    /// What is resident is counted over all backing files where both sides could be counted, and their sum is a number.
    public init(
        name: String, id: String, state: TrustDomainState, reason: String?, backend: Backend, memoryBytes: UInt64,
        privateBytes: UInt64, sharedBytes: UInt64, convertingBytes: UInt64, residentPrivateBytes: UInt64?,
        residentSharedBytes: UInt64?, vcpus: Int, keyID: UInt16?, holderPID: Int32, mrtd: String?, firmware: String?,
        createdAt: String, ownerUID: UInt32, numa: NUMAPlacement? = nil, lastWill: LastWillState? = nil,
        kind: HolderKind? = nil
    ) {
        self.init(
            name: name, id: id, state: state, reason: reason, backend: backend, memoryBytes: memoryBytes,
            privateBytes: privateBytes, sharedBytes: sharedBytes, convertingBytes: convertingBytes,
            residentBytes: residentPrivateBytes.flatMap { own in
                residentSharedBytes.flatMap { other in
                    let sum = own.addingReportingOverflow(other)
                    return sum.overflow ? nil : sum.partialValue
                }
            },
            residentPrivateBytes: residentPrivateBytes, residentSharedBytes: residentSharedBytes, vcpus: vcpus,
            keyID: keyID, holderPID: holderPID, mrtd: mrtd, firmware: firmware, createdAt: createdAt,
            ownerUID: ownerUID, numa: numa, lastWill: lastWill, kind: kind)
    }
}
