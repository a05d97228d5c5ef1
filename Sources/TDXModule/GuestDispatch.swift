public import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// A TDCALL's first checks, then the leaf (reference §2).
    func dispatchGuest(_ r: inout Registers, _ tdvpr: UInt64) -> TDCallOutcome {
        guard let (vcpu, td) = insideVCPU(tdvpr) else { return .notInside }
        let outcome: TDCallOutcome
        let version = r.rax >> 16
        if let leaf = TDCallLeaf(rawValue: UInt16(truncatingIfNeeded: r.rax)),
            version == 0 || (version <= 0xFF && leaf.row.hasLaterVersions)
        {
            let call = GuestLeafCall(vcpu: vcpu, td: td, version: version)
            outcome = leaf.withRow { _, handler in handler(self, &r, call) }
        } else {
            outcome = .completed(.operandInvalid.with(.rax))
        }
        if case .completed(let status) = outcome {
            r.rax = status.rawValue
            noteProgress(vcpu)
        }
        return outcome
    }

    /// Translates an access by the guest on that vCPU (reference §2.3). `write` and `execute` choose the rights that
    /// are needed; reading always is.
    public func access(
        _ address: GuestPhysicalAddress, write: Bool = false, execute: Bool = false, vcpu tdvpr: HostPhysicalAddress
    ) -> GuestAccessOutcome {
        guard let (vcpu, td) = insideVCPU(tdvpr.rawValue) else { return .notInside }
        let gpa = address.rawValue
        let state = TDState(td.pointee.state.get())
        let forbidden = td.pointee.forbiddenGPABits.get()
        let sharedBit = forbidden & ~(forbidden - 1)
        if gpa & forbidden == sharedBit { return .shared }
        let qualification: UInt64 = (write ? 2 : 1) | (execute ? 4 : 0)
        func violation(_ extended: ExtendedQualification = .none) -> GuestAccessOutcome {
            .exit(
                .eptViolation(gpa: GuestPhysicalAddress(gpa & ~0xFFF), qualification: qualification, extended: extended)
            )
        }
        if gpa & forbidden != 0 { return violation() }
        let found = walk(td, gpa, to: 0, root: state.rootLevel)
        let entryState = decode(found.raw)
        if entryState.isIn(EntryState.accessibleLeafSet) {
            if write, found.raw & 2 == 0 { return violation() }
            let mask = (UInt64(1) << (12 + 9 * found.level)) - 1
            let host = Entry.address(found.raw) & ~mask | gpa & mask
            if faults.isPoisoned(host) { return .exit(.machineCheck) }
            noteProgress(vcpu)
            return .memory(HostPhysicalAddress(host), key: KeyID(state.key))
        }
        guard entryState == .pending || entryState == .pendingExportedDirty else { return violation() }
        if td.details.contents.withLock({ $0.controls & 1 }) != 0 {
            return violation(ExtendedQualification(kind: .pendingViolation))
        }
        vcpu.details.contents.withLock {
            $0.exception = VirtualizationException(qualification: qualification, gpa: gpa)
        }
        return .virtualizationException
    }

    /// Nanoseconds of the module's clock.
    func clock() -> UInt64 { faults.nanoseconds() }

    /// The processor's TSC: the module's clock at the processor's frequency.
    func timeStampCounter() -> UInt64 {
        let product = clock().multipliedFullWidth(by: platform.processor.tscFrequency)
        let second: UInt64 = 1_000_000_000
        return product.high < second ? second.dividingFullWidth(product).quotient : .max
    }
}
