internal import MemoryUnits
internal import TDXStatusCodes

/// Who watches calls.
struct Observation: Sendable {
}

extension TDXModule {
    func observedSeamcall(_ r: inout Registers, on processor: LogicalProcessorID) -> TDXStatus {
        dispatch(&r, processor)
    }
    func observedEnter(_ r: inout Registers, on processor: LogicalProcessorID) -> TDXStatus {
        dispatch(&r, processor, staysInside: true)
    }
    func observeExit(_ exit: TDExit, _ tdvpr: HostPhysicalAddress, _ r: Registers, _ status: TDXStatus?) {}
    func observedTDCall(_ r: inout Registers, _ tdvpr: HostPhysicalAddress) -> TDCallOutcome {
        dispatchGuest(&r, tdvpr.rawValue)
    }
}
