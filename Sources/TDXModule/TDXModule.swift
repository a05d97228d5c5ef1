public import MemoryUnits
public import TDXStatusCodes

/// A TDX module in software: SEAMCALLs and TDCALLs with the public module's checks, statuses and registers.
///
/// Several threads may call in at once, each as a logical processor of its own; what the module locks it locks by
/// try-locks, so contention shows as a busy status and never as waiting.
public final class TDXModule: Sendable {
    public let platform: PlatformDescription
    let memory: any PhysicalMemory

    /// A module that was just loaded: its state is SYSINIT_PENDING.
    public init(platform: PlatformDescription, memory: any PhysicalMemory) throws(PlatformError) {
        try platform.validate()
        self.platform = platform
        self.memory = memory
    }

    /// One SEAMCALL on a logical processor. Registers change as the leaf says (reference §0.1); the result is RAX too.
    ///
    /// VP.ENTER returns when the vCPU has left the guest again, as on hardware: without a guest program it leaves at
    /// once for an external interrupt. Use `enter(_:on:)` to stay inside.
    @discardableResult
    public func seamcall(_ registers: inout Registers, on processor: LogicalProcessorID) -> TDXStatus {
        let status = TDXStatus.operandInvalid.with(.rax)
        registers.rax = status.rawValue
        return status
    }

    /// VP.ENTER up to the point where the guest's first instruction would run. On SUCCESS the vCPU is inside and holds
    /// its locks until `exit(_:vcpu:into:)`; otherwise nothing happened but what VP.ENTER does on failure.
    @discardableResult
    public func enter(_ registers: inout Registers, on processor: LogicalProcessorID) -> TDXStatus {
        seamcall(&registers, on: processor)
    }

    /// Takes a vCPU out of the guest; `registers` become what VP.ENTER returns for that exit. Nil when no vCPU with
    /// that TDVPR page is inside.
    @discardableResult
    public func exit(_ exit: TDExit, vcpu tdvpr: HostPhysicalAddress, into registers: inout Registers) -> TDXStatus? {
        nil
    }

    /// One TDCALL of the guest that runs on the vCPU with that TDVPR page.
    public func tdcall(_ registers: inout Registers, vcpu tdvpr: HostPhysicalAddress) -> TDCallOutcome {
        .notInside
    }

    /// Translates an access by the guest on that vCPU. `write` and `execute` choose the rights that are needed.
    public func access(
        _ address: GuestPhysicalAddress, write: Bool = false, execute: Bool = false, vcpu tdvpr: HostPhysicalAddress
    ) -> GuestAccessOutcome {
        .notInside
    }

    /// Runs SYS.INIT, LP.INIT, CONFIG, KEY.CONFIG and TDMR.INIT to the end, as a host does at boot. The first status
    /// that is no success ends it.
    @discardableResult
    public func bringUp() -> TDXStatus {
        .sysNotReady
    }
}
