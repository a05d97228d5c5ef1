public import KVM
public import MemoryUnits

/// Why pre-faulting stopped. What was mapped before stays mapped.
public enum PreFaultError: Error, Hashable, Sendable {
    case cancelled
    case refused(KVMError)
}

extension GuestMemory {
    /// Bytes that are mapped in one call: small enough to be cancelled between, and one table's worth of 4 KiB pages.
    public static var preFaultStep: ByteCount { .mebibytes(2) }

    /// Maps every private page into the TD's secure page table, so that the guest meets no fault when it first touches one.
    /// Pages that have no memory yet get it here; those that are mapped, such as the measured image's, stay as they are.
    ///
    /// Only of a TD that is finalized: before, KVM refuses with EOPNOTSUPP (reference: kvm.md §1.4). No thread may convert
    /// meanwhile. One vCPU does all of it: allocating, which is what takes the time of several CPUs, is `preallocate`'s.
    /// - Parameters:
    ///   - vcpu: is inside KVM_PRE_FAULT_MEMORY for a step at a time, and must not run.
    ///   - isCancelled: asked before each step.
    ///   - progress: bytes that are mapped so far, after each step.
    /// - Throws: the kernel's refusal, with the address that it stopped at.
    public func preFault(
        through vcpu: any KVMVirtualCPU, isCancelled: () -> Bool = { false },
        progress: (ByteCount) -> Void = { _ in }
    ) throws(PreFaultError) {
        var done = ByteCount.zero
        for run in runs() where run.state == .private {
            let range = run.frames.bytes
            var position = range.start
            while position < range.end {
                guard !isCancelled() else { throw .cancelled }
                // Up to the next border of a step, so that a call fills whole tables.
                let beyond = position.rawValue % Self.preFaultStep.rawValue
                let length = min(Self.preFaultStep - ByteCount(beyond), range.end - position)
                do {
                    try vcpu.preFault(GuestPhysicalRange(start: position, size: length))
                } catch {
                    throw .refused(error)
                }
                position = position + length
                done += length
                progress(done)
            }
        }
    }
}
