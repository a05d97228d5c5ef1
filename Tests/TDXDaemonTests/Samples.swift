import ControlInterface
import Synchronization

@testable import TDXDaemon

/// Values that several tests share.
enum Sample {
    static func record(_ name: String, id: String? = nil, memory: UInt64 = 1 << 30, key: UInt16 = 32) -> DomainRecord {
        DomainRecord(
            name: name, id: id ?? "id-of-\(name)", memoryBytes: memory, vcpus: 2, firmware: nil,
            createdAt: "2026-03-01T12:00:00.000Z", ownerUID: 1000, keyID: key, backend: .memfd,
            backing: [.init(device: 1, inode: 7)], holderPID: 4711)
    }

    static func figures(_ record: DomainRecord, residentPrivate: UInt64 = 0) -> TrustDomain {
        TrustDomain(
            name: record.name, id: record.id, state: .runnable, reason: nil, backend: .memfd,
            memoryBytes: record.memoryBytes, privateBytes: record.memoryBytes, sharedBytes: 0, convertingBytes: 0,
            residentPrivateBytes: residentPrivate, residentSharedBytes: 0, vcpus: record.vcpus, keyID: record.keyID,
            holderPID: record.holderPID ?? 0, mrtd: String(repeating: "a", count: 96), firmware: nil,
            createdAt: record.createdAt, ownerUID: record.ownerUID)
    }

    static func certificate(_ record: DomainRecord, holds: Bool = true, died: Bool = false) -> TeardownCertificate {
        TeardownCertificate(
            name: record.name, id: record.id, backend: .memfd, policy: "auto", path: .dynamicRemoval,
            holderDied: died, startedAt: "2026-03-01T12:00:01.000Z", milliseconds: 12.5,
            memoryBytes: record.memoryBytes, releasedBytes: 4096, keyID: record.keyID,
            phases: [TeardownPhase(name: .release, milliseconds: 3, bytes: 4096, calls: 1)],
            proofs: [
                TeardownProof(name: "residency_zero", holds: true, evidence: "cachestat: 0 bytes"),
                TeardownProof(name: "key_id_returned", holds: holds, evidence: "ledger"),
            ], failures: [])
    }
}

/// The refusal that `body` throws; nil when it throws none.
func refusal(_ body: () throws -> Void) -> ControlError? {
    do {
        try body()
        return nil
    } catch {
        return error as? ControlError
    }
}
