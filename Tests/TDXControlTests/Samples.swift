import ControlInterface

extension TrustDomain {
    static func sample(
        _ name: String, state: TrustDomainState = .runnable, reason: String? = nil, backend: Backend = .guestMemfd,
        keyID: UInt16? = 3, mrtd: String? = String(repeating: "0123456789abcdef", count: 6)
    ) -> TrustDomain {
        TrustDomain(
            name: name, id: "00112233445566778899aabbccddeeff", state: state, reason: reason, backend: backend,
            memoryBytes: 1 << 30, privateBytes: (1 << 30) - (4 << 20), sharedBytes: 4 << 20, convertingBytes: 0,
            residentPrivateBytes: 5_300_000, residentSharedBytes: 0, vcpus: 2, keyID: keyID, holderPID: 4711,
            mrtd: mrtd, firmware: "/usr/share/ovmf/OVMF.fd", createdAt: "2026-01-02T03:04:05.678Z", ownerUID: 1000)
    }
}

extension TeardownCertificate {
    static func sample(holds: Bool = true, failure: String? = nil) -> TeardownCertificate {
        TeardownCertificate(
            name: "web1", id: "00112233445566778899aabbccddeeff", backend: .guestMemfd, policy: "terminate-first",
            path: .dynamicRemoval, holderDied: false, startedAt: "2026-01-02T03:04:05.678Z", milliseconds: 41.27,
            memoryBytes: 1 << 30, releasedBytes: 1 << 30, keyID: 3,
            phases: [
                TeardownPhase(name: .quiesce, milliseconds: 0.041),
                TeardownPhase(name: .release, milliseconds: 38.512, bytes: 1 << 30, calls: 64, detail: "4 shards"),
            ],
            proofs: [
                TeardownProof(name: "memory", holds: true, evidence: "cachestat: 0 pages"),
                TeardownProof(name: "key-id", holds: holds, evidence: "key id 3 is \(holds ? "free" : "draining")"),
            ], failures: failure.map { [EndFailure(.punchRefused, $0)] } ?? [])
    }
}

extension HostReport {
    static let sample = HostReport(
        backend: .guestMemfd, reason: "guest_memfd is there, memory attributes are not",
        checks: [
            HostCheck(name: "kvm/device", title: "/dev/kvm", result: .pass, evidence: "opened"),
            HostCheck(
                name: "kvm/vm_types", title: "VM types", result: .skip, evidence: "0x1: 0 default",
                hint: "type 5 needs a CPU with TDX"),
            HostCheck(name: "memory", title: "Memory available", result: .fail, evidence: "12 MiB", hint: "add some"),
        ])
}
