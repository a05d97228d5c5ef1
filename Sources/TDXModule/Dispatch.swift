internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// The order of checks before any leaf's own: reference §0.1.
    func dispatch(
        _ registers: inout Registers, _ processor: LogicalProcessorID, staysInside: Bool = false
    ) -> TDXStatus {
        precondition(processor.rawValue < processorCount, "the platform has no such logical processor")
        let status = call(&registers, processor, staysInside)
        registers.rax = status.rawValue
        return status
    }

    private func call(
        _ r: inout Registers, _ processor: LogicalProcessorID, _ staysInside: Bool
    ) -> TDXStatus {
        let rax = r.rax
        let refused = TDXStatus.operandInvalid.with(.rax)
        if rax & 0xFFFF_FFFF_FF00_0000 != 0 { return refused }
        let number = UInt16(truncatingIfNeeded: rax)
        if rax > 0xFFFF, !acceptsVersions(number) { return refused }
        let state = systemState.get()
        if state != SystemState.ready.rawValue {
            if state == SystemState.shutdown.rawValue {
                if number != SeamcallLeaf.sysLpShutdown.rawValue { return .sysShutdown }
            } else if !worksBeforeReady(number) {
                return .sysNotReady
            }
        }
        guard let leaf = SeamcallLeaf(rawValue: number) else { return refused }
        let call = LeafCall(processor: processor, rax: rax, staysInside: staysInside)
        return leaf.withRow { _, handler in handler(self, &r, call) }
    }

    @inline(never) private func acceptsVersions(_ number: UInt16) -> Bool {
        SeamcallLeaf(rawValue: number).map { holds($0.row.laterVersions) } ?? false
    }

    @inline(never) private func worksBeforeReady(_ number: UInt16) -> Bool {
        SeamcallLeaf(rawValue: number).map { holds($0.row.beforeReady) } ?? false
    }

    private func holds(_ availability: LeafRow.Availability) -> Bool {
        switch availability {
        case .never: false
        case .late: isLate
        case .always: true
        }
    }
}
