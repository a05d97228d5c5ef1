internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import TDXEmulator

/// What the holder itself can prove of a TD's end; tdxd adds what can be seen from outside.
enum HolderProofs {
    static func make(
        _ report: TeardownReport, shards: Int, inspection: EmulatedInspection?
    ) -> [TeardownProof] {
        var proofs: [TeardownProof] = []
        // What this kernel cannot count does not fail a proof: tdxd adds how else it is known, or that it is not.
        if report.remaining != nil || FileMemory.hasCachestat {
            proofs.append(
                TeardownProof(
                    name: "holder_residency", holds: report.remaining == .zero,
                    evidence: report.remaining.map {
                        "\(FileMemory.residencyMethod) counted \($0.rawValue) bytes in the files of "
                            + "\(counted(shards, "shard")) before they were closed"
                    } ?? "residency could not be read before the files were closed"))
        }
        if let inspection { proofs += emulated(inspection) }
        return proofs
    }

    static func notBegun(_ error: TrustDomainError) -> [TeardownProof] {
        [TeardownProof(name: "holder_residency", holds: false, evidence: "the teardown was not begun: \(error)")]
    }

    /// What the software module still owns, as a failure: nothing of it may be given to another TD.
    ///
    /// After a vCPU that did not leave, the module still has the VM, and loses it with this process: that does not count as a failure of its
    /// own.
    static func ownership(_ inspection: EmulatedInspection, after failures: [EndFailure]) -> [EndFailure] {
        guard !failures.contains(where: { $0.kind == .vcpuStuck }), !failures.keepsMemory,
            let open = emulated(inspection).first(where: { !$0.holds })
        else { return [] }
        let text = "\(open.name): \(open.evidence)"
        if inspection.privatePages != .zero { return [EndFailure(.moduleOwns, text)] }
        // Control pages or the key id alone: the memory has come back.
        return failures.keepsKey ? [] : [EndFailure(.closeFailed, text)]
    }

    /// The software module's evidence. Labelled as such in every line: it proves nothing about hardware.
    private static func emulated(_ inspection: EmulatedInspection) -> [TeardownProof] {
        let label = EmulatedInspection.label
        let key = inspection.keyID.map { String($0.rawValue) } ?? "none"
        let calls = inspection.seamcalls.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
        return [
            TeardownProof(
                name: "emulated_vm_destroyed", holds: inspection.isDestroyed && inspection.bug == nil,
                evidence: "\(label): the VM is \(inspection.isDestroyed ? "destroyed" : "still there")"
                    + (inspection.bug.map { ", KVM_BUG_ON: \($0.text)" } ?? "")),
            TeardownProof(
                name: "emulated_key_free", holds: inspection.keyState == "FREE",
                evidence: "\(label): the module's key table says \(inspection.keyState ?? "nothing") of key id \(key)"),
            TeardownProof(
                name: "emulated_no_page_owned",
                holds: inspection.privatePages == .zero && inspection.controlPages == .zero
                    && inspection.leakedPages == .zero,
                evidence: "\(label): \(inspection.privatePages.rawValue) private, "
                    + "\(inspection.controlPages.rawValue) control and \(inspection.leakedPages.rawValue) leaked pages; "
                    + "SEAMCALLs: " + calls.joined(separator: ", ")),
        ]
    }
}

extension ControlInterface.TeardownPhase {
    init(_ phase: ConfidentialMemory.TeardownPhase) {
        self.init(
            name: EndPhase(rawValue: phase.name.rawValue), milliseconds: phase.milliseconds,
            bytes: phase.bytes.rawValue,
            calls: UInt64(phase.calls), detail: phase.detail)
    }
}

extension MemoryRun {
    init(_ run: PageRun) {
        let bytes = run.frames.bytes
        self.init(gpa: bytes.start.rawValue, bytes: bytes.size.rawValue, attribute: PageAttribute(run.state))
    }
}

extension PageAttribute {
    init(_ state: PageState) {
        self =
            switch state {
            case .shared: .shared
            case .private: .private
            case .convertingToPrivate: .convertingToPrivate
            case .convertingToShared: .convertingToShared
            }
    }
}
