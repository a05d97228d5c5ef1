internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// VP.INIT (reference §1.3); [late] version 1 gives the x2APIC id in R8.
    func vpInit(_ r: inout Registers, _ processor: LogicalProcessorID, version: UInt64) -> TDXStatus {
        // [late] looks at IA32_TSC_ADJUST before anything else.
        if isLate, faults.takes(.tscAdjust) { return .inconsistentMSR.with(details: InconsistentMSR.tscAdjust) }
        if version > 1 { return .operandInvalid.with(.rax) }
        let (initialValue, apicID) = (r.rdx, r.r8)
        let tdr: TDLockRequest = version == 1 ? .tdrExclusive : .tdrShared
        let locks = TDLocks(request: tdr + .opStateShared, tdr: tdr, hasOpState: true)
        var access: VCPUAccess?
        let status = openVCPU(r.rcx, .rcx, for: .vpInit, exclusive: true, locks, into: &access)
        guard let access else { return status }
        defer { close(access) }
        let vcpu = access.vcpu
        let td = access.owner.td
        let state = VCPUState(vcpu.pointee.state.get())
        guard state.pages >= 6 else { return .tdcxNumIncorrect }
        guard state.condition == VCPUCondition.uninitialized.rawValue else { return .vcpuStateIncorrect }
        let context = td.details
        let limit = context.contents.withLock { UInt64($0.parameters.maxVCPUs) }
        // NUM_VCPUS is taken at once, as TDR is only shared. A changed IA32_TSC_ADJUST leaves it counted.
        guard let index = takeVCPU(td, limit: limit) else { return .maxVCPUsExceeded }
        func refuse(_ status: TDXStatus) -> TDXStatus {
            td.pointee.vcpus.minus(1)
            return status
        }
        if !isLate, faults.takes(.tscAdjust) { return .inconsistentMSR.with(details: InconsistentMSR.tscAdjust) }
        if version == 1 {
            guard let id = UInt32(exactly: apicID) else { return refuse(.operandInvalid.with(.r8)) }
            if !context.contents.withLock({ $0.apicIDs.insert(id).inserted }) {
                return refuse(.x2apicIDNotUnique.with(details: id))
            }
        }
        vcpu.details.contents.withLock { contents in
            contents.initialValue = initialValue
            contents.index = UInt32(index)
            contents.apicID = version == 1 ? UInt32(apicID) : nil
            initializeFields(&contents, access)
        }
        changeAssociated(td, by: 1)
        vcpu.pointee.state.update(
            VCPUState.conditionMask | VCPUState.processorMask,
            to: UInt64(VCPUCondition.ready.rawValue) | UInt64(processor.rawValue) << 32)
        return .success
    }

    /// NUM_VCPUS + 1 unless that exceeds the limit; the vCPU's index.
    private func takeVCPU(_ td: TD, limit: UInt64) -> UInt64? {
        while true {
            let old = td.pointee.vcpus.get()
            let count = old & 0xFFFF_FFFF
            if count >= limit { return nil }
            if td.pointee.vcpus.replace(old, by: old + 1) { return count }
        }
    }
}

/// MSRs that calls name in their status.
enum InconsistentMSR {
    static let tscAdjust: UInt32 = 0x3B
}
