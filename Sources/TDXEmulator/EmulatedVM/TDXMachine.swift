internal import Glibc
internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXModule
internal import TDXStatusCodes

/// One emulated TDX VM: what the kernel keeps in `struct kvm` and `struct kvm_tdx`.
///
/// It lives until its last reference goes, and each of these holds one: the VM descriptor, every vCPU descriptor, every
/// guest memory file. Then it is torn down as in reference/kvm.md §4.2.
///
/// Locks, outermost first: `kvmLock`, each vCPU's mutex, `slotsLock`, a file's invalidate lock, `mmuLock`, then either
/// `mapLock` or a vCPU's guest lock.
final class TDXMachine: @unchecked Sendable {
    /// Source: reference/kvm.md §4.1.
    enum State: Hashable, Sendable {
        case uninitialized, initialized, runnable
        static let all: Set<State> = [.uninitialized, .initialized, .runnable]
    }

    let host: HostContext
    let backing: any BackingVM
    let counts = SeamcallCounts()
    private let creator = getpid()

    private let references = Atomic(1)
    private let deadFlag = DeadFlag()
    /// Removals that wait for a busy module: no vCPU enters while there are any.
    let zapsWaiting = Atomic(0)
    private let firstBug = Lock()
    private var bugMet: EmulatedBug?
    private var firstWarning: String?

    let kvmLock = Lock()
    let slotsLock = Lock()
    let mmuLock = ReadWriteLock()
    let mapLock = Lock()

    // Changed inside `kvmLock`; `vcpus` inside `mmuLock` for writing too.
    var state = State.uninitialized
    var vcpus: [VCPUCore] = []
    var vcpusInCreation = 0
    var hasSplitIRQChip = false
    var hypercallExits: UInt64 = 0
    /// As KVM_CAP_MAX_VCPU_ID set it.
    var maximumVCPUID: UInt64?
    /// Of the guest's time-stamp counter, in kHz.
    var kilohertz = TDParameters.hostKilohertz
    var busyTerminations: Int

    // Changed inside `slotsLock` and `mmuLock` for writing; either is enough to read.
    var slots = SlotTable()
    var attributes = AttributeMap()

    // Changed inside `mapLock` while `mmuLock` is held, for reading by who adds and for writing by who removes.
    var mirror = MirrorTable()
    var pagesBeingMapped: Set<UInt64> = []
    var tablesBeingAdded: Set<MirrorTable.UpperTable> = []

    // Changed inside all locks and `mmuLock` for writing; a vCPU's mutex is enough to read.
    var domain: TrustDomain?
    /// True from INIT_VM until KEY.FREEID. Changed inside `mmuLock` for writing.
    var hasKeyID = false
    var preFaultAllowed = false
    /// Deliberately kept from the host because the module would not release the key.
    var leakedPages: UInt64 = 0
    let evidence = Mutex(Evidence())

    /// What a TD has from INIT_VM on.
    struct TrustDomain {
        var keyID: KeyID
        var tdr: HostPhysicalAddress
        var controlPages: [HostPhysicalAddress]
        var sharedBit: UInt64
        var rootLevel: UInt64
    }

    init(host: HostContext, backing: any BackingVM) {
        self.host = host
        self.backing = backing
        if case .busy(let times) = host.configuration.terminate {
            busyTerminations = times
        } else {
            busyTerminations = 0
        }
    }

    // MARK: References and gates

    func retain() { references.wrappingAdd(1, ordering: .relaxed) }

    func release() {
        if references.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { destroy() }
    }

    /// What every VM and vCPU ioctl meets first: EIO from another process than the creator, and for a dead VM.
    func enter(_ operation: String) throws(KVMError) {
        guard getpid() == creator else {
            throw KVMError(operation, .ioError, detail: "another process created the VM")
        }
        guard !dead else {
            throw KVMError(operation, .ioError, detail: "the VM is dead" + (bug.map { ": \($0.text)" } ?? ""))
        }
    }

    var dead: Bool { deadFlag.isSet }

    /// kvm_vm_dead(): every ioctl fails with EIO from now on. A vCPU inside KVM_RUN sees it at its guest's next step.
    func markDead() { deadFlag.set() }

    /// KVM_BUG_ON: the kernel would warn once; the VM is dead. Returns the error that the call ends with.
    @discardableResult
    func bugOn(_ operation: String, _ call: SeamcallLeaf, _ status: TDXStatus) -> KVMError {
        let text = "\(call.name) ended with \(status)"
        return bugOn(operation, text, status: status)
    }

    @discardableResult
    func bugOn(_ operation: String, _ text: String, status: TDXStatus? = nil) -> KVMError {
        firstBug.withLock { if bugMet == nil { bugMet = EmulatedBug(text: "\(operation): \(text)", status: status) } }
        markDead()
        // Its status goes to the kernel's log; user space gets EIO alone.
        return KVMError(operation, .ioError, detail: text)
    }

    /// WARN_ON without a consequence for the VM: kept for the evidence.
    func warn(_ text: String) { firstBug.withLock { if firstWarning == nil { firstWarning = text } } }

    /// What the kernel's log would warn of first, beside bugs.
    var warning: String? { firstBug.withLock { firstWarning } }

    /// The first KVM_BUG_ON that the VM met.
    var bug: EmulatedBug? { firstBug.withLock { bugMet } }

    /// Of a vCPU that is being made.
    func makeGuestMode() -> GuestMode { GuestMode(module: host.module, frames: host.frames, vmDead: deadFlag) }

    // MARK: Commands

    /// The guard of all vCPU commands and most VM commands: kvm->lock, no vCPU creation under way, every vCPU mutex,
    /// slots_lock. Waits while a vCPU is inside KVM_RUN.
    func withAllLocks<Result>(
        _ operation: String, _ body: () throws(KVMError) -> Result
    ) throws(KVMError) -> Result {
        kvmLock.lock()
        defer { kvmLock.unlock() }
        guard vcpusInCreation == 0 else {
            throw KVMError(operation, .resourceBusy, detail: "a vCPU is being created")
        }
        let held = vcpus
        for vcpu in held { vcpu.mutex.lock() }
        defer { for vcpu in held.reversed() { vcpu.mutex.unlock() } }
        slotsLock.lock()
        defer { slotsLock.unlock() }
        return try body()
    }

    /// One SEAMCALL for this TD.
    func seamcall(
        _ leaf: SeamcallLeaf, version: UInt8 = 0, rcx: UInt64 = 0, rdx: UInt64 = 0, r8: UInt64 = 0, r9: UInt64 = 0,
        on processor: LogicalProcessorID = LogicalProcessorID(0)
    ) -> Registers {
        host.seamcall(
            Registers(leaf, version: version, rcx: rcx, rdx: rdx, r8: r8, r9: r9), on: processor, leaf: leaf,
            counts: counts)
    }
}
