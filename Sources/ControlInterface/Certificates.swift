public import Terms

extension TeardownCertificate {
    /// The end is complete when it is over, every proof holds and nothing failed.
    public init(
        name: String, id: String, backend: Backend, policy: String, path: EndPath, holderDied: Bool, startedAt: String,
        milliseconds: Double, memoryBytes: UInt64, releasedBytes: UInt64, keyID: UInt16?, phases: [TeardownPhase],
        proofs: [TeardownProof], failures: [EndFailure], pageReset: String? = nil, pending: String? = nil
    ) {
        self.init(
            name: name, id: id, backend: backend, policy: policy, path: path, holderDied: holderDied,
            startedAt: startedAt, milliseconds: milliseconds, memoryBytes: memoryBytes, releasedBytes: releasedBytes,
            keyID: keyID, phases: phases, proofs: proofs,
            complete: failures.isEmpty && pending == nil && !proofs.isEmpty && proofs.allSatisfy(\.holds),
            failures: failures, failure: failures.words, tdxStatus: failures.status, pageReset: pageReset,
            pending: pending)
    }
}

extension CertificateSummary {
    public init(_ certificate: TeardownCertificate) {
        self.init(
            name: certificate.name, id: certificate.id, backend: certificate.backend, path: certificate.path,
            policy: certificate.policy, holderDied: certificate.holderDied, startedAt: certificate.startedAt,
            milliseconds: certificate.milliseconds, releasedBytes: certificate.releasedBytes,
            complete: certificate.complete, failure: certificate.failure, pending: certificate.pending)
    }
}

extension HolderInterface.Stop.Reply {
    /// The last one: failure and TDX status are those of the failures.
    public init(
        phases: [TeardownPhase], proofs: [TeardownProof], path: EndPath, releasedBytes: UInt64,
        failures: [EndFailure], withheld: Bool? = nil
    ) {
        self.init(
            phases: phases, proofs: proofs, path: path, releasedBytes: releasedBytes, failures: failures,
            failure: failures.words, tdxStatus: failures.status, withheld: withheld)
    }
}
