public import MemoryUnits
internal import Synchronization
public import TDXStatusCodes

/// A TDX module in software: SEAMCALLs and TDCALLs with the public module's checks, statuses and registers.
///
/// Several threads may call in at once, each as a logical processor of its own; what the module locks it locks by
/// try-locks, so contention shows as a busy status and never as waiting.
///
/// Modelled limits: no TD partitioning (NUM_L2_VMS must be 0), no migration, no service TDs; at most 1,048,575 trust
/// domains and vCPUs and 16,777,215 Secure-EPT tables at a time.
public final class TDXModule: Sendable {
    public let platform: PlatformDescription
    let memory: any PhysicalMemory

    let pamt: PAMT
    let tables: SecureEPTTables
    let tdSlab: Slab
    let vcpuSlab: Slab
    let permissions: Permissions
    let decode: EntryStateDecoder
    let backing: PAMTBacking

    /// `SystemState`.
    let systemState = Atomic<UInt64>(SystemState.initPending.rawValue)
    let system = Mutex(SystemTables())
    let systemLock = LockWord()
    let keys: Mutex<[KeyEntry]>
    let keyTableLock = LockWord()
    /// The key-programming unit (PCONFIG).
    let keyUnitLock = LockWord()
    let writeBacks: Mutex<[WriteBackState]>
    /// What a 2 MiB entry above used 4 KiB entries holds: 0, or [late] PT_PAMT in its type bits.
    let parentWord = Atomic<UInt64>(0)
    let isLate: Bool
    let processorCount: UInt32

    /// Faults to meet, and observers. Plain calls look at `isObserved` alone.
    let isObserved = Atomic<Bool>(false)
    public let faults = FaultInjector()
    let observation = Mutex(Observation())
    /// The random numbers of keys, UUIDs and report MACs.
    let entropy: EntropySource
    /// The key of report MACs, new with each load.
    let reportKey: [UInt8]

    /// A module that was just loaded: its state is SYSINIT_PENDING.
    ///
    /// - Parameter seed: makes every "random" number of the module repeatable; nil takes the system's generator.
    public init(platform: PlatformDescription, memory: any PhysicalMemory, seed: UInt64? = nil) throws(PlatformError) {
        try platform.validate()
        self.platform = platform
        self.memory = memory
        pamt = try PAMT(platform: platform)
        tables = try SecureEPTTables()
        tdSlab = try Slab(stride: 128, capacity: 1 << 20)
        vcpuSlab = try Slab(stride: 64, capacity: 1 << 20)
        backing = try PAMTBacking(platform: platform)
        permissions = Permissions(version: platform.version)
        decode = EntryStateDecoder(version: platform.version)
        keys = Mutex([KeyEntry](repeating: KeyEntry(), count: Int(platform.privateKeyIDs.upperBound) + 1))
        writeBacks = Mutex([WriteBackState](repeating: WriteBackState(), count: platform.packages))
        isLate = platform.version == .late
        processorCount = UInt32(platform.logicalProcessors)
        entropy = EntropySource(seed: seed)
        reportKey = entropy.bytes(32) ?? []
    }

    deinit {
        releaseContexts()
        permissions.deallocate()
        decode.deallocate()
    }

    /// Release 1.5.01 leaves the owner in the entry of a page that it frees.
    var keepsStaleOwners: Bool { !isLate }
    var tableParentWord: UInt64 { parentWord.load(ordering: .relaxed) }
    /// [late] SYS.CONFIG chose dynamic PAMT.
    var usesDynamicPAMT: Bool { tableParentWord != 0 }
    /// Bit per package.
    var allPackages: UInt64 { (1 << UInt64(platform.packages)) - 1 }

    /// One SEAMCALL on a logical processor. Registers change as the leaf states (reference §0.1); the result is RAX too.
    ///
    /// VP.ENTER returns when the vCPU has left the guest again, as on hardware: without a guest program it leaves at
    /// once for an external interrupt. Use `enter(_:on:)` to stay inside.
    ///
    /// - Precondition: `processor` is one of the platform's. One thread at a time calls as a processor.
    @discardableResult
    public func seamcall(_ registers: inout Registers, on processor: LogicalProcessorID) -> TDXStatus {
        if isObserved.load(ordering: .relaxed) { return observedSeamcall(&registers, on: processor) }
        return dispatch(&registers, processor)
    }

    /// VP.ENTER up to the point where the guest's first instruction would run. On SUCCESS the vCPU is inside and holds
    /// its locks until `exit(_:vcpu:into:)`; otherwise nothing happened but what VP.ENTER does on failure.
    ///
    /// RAX must hold VP.ENTER's leaf number, 0.
    @discardableResult
    public func enter(_ registers: inout Registers, on processor: LogicalProcessorID) -> TDXStatus {
        if isObserved.load(ordering: .relaxed) { return observedEnter(&registers, on: processor) }
        return dispatch(&registers, processor, staysInside: true)
    }

    /// Takes a vCPU out of the guest; `registers` become what VP.ENTER returns for that exit, and so does the result.
    /// Nil when no vCPU with that TDVPR page is inside.
    @discardableResult
    public func exit(_ exit: TDExit, vcpu tdvpr: HostPhysicalAddress, into registers: inout Registers) -> TDXStatus? {
        let status = leave(exit, tdvpr.rawValue, &registers)
        if isObserved.load(ordering: .relaxed) { observeExit(exit, tdvpr, registers, status) }
        return status
    }

    /// One TDCALL of the guest that runs on the vCPU with that TDVPR page.
    public func tdcall(_ registers: inout Registers, vcpu tdvpr: HostPhysicalAddress) -> TDCallOutcome {
        if isObserved.load(ordering: .relaxed) { return observedTDCall(&registers, tdvpr) }
        return dispatchGuest(&registers, tdvpr.rawValue)
    }
}
