internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import TDXModule

/// What the kernel keeps of one vCPU. It lives as long as its VM, whatever becomes of the descriptor.
final class VCPUCore: @unchecked Sendable {
    /// Source: reference/kvm.md §4.1.
    enum State: Hashable, Sendable {
        case uninitialized, initialized
    }

    let id: UInt32
    /// The vCPU mutex: held for the whole of KVM_RUN and of every other vCPU ioctl.
    let mutex = Lock()
    /// The logical processor that the vCPU runs on.
    let processor: LogicalProcessorID

    // Changed inside all locks, the pages inside `mmuLock` for writing too; or by destruction.
    var state = State.uninitialized
    var initialRCX: UInt64 = 0
    var tdvpr: HostPhysicalAddress?
    var controlPages: [HostPhysicalAddress] = []

    // Changed inside `mutex`, or by destruction.
    /// The module may hold the vCPU associated with `processor`.
    var mayBeAssociated = false
    var cpuid: [CPUIDEntry] = []
    var guest: GuestThread?
    /// What userspace must answer before the vCPU goes on.
    var pending: PendingExit?
    /// The registers that the guest passed with its last VMCALL and gets back, changed where the call has an answer: as in Linux
    /// the same area is the output of one VP.ENTER and the input of the next.
    var callRegisters = Registers()
    /// The MSRs that Linux keeps for a TD.
    var msrs = EmulatedMSRs()
    /// What the guest's last access to shared memory gave; nil when it was not performed and starts again.
    var sharedResult: [UInt8]?

    /// Innermost lock: whether the vCPU is inside the guest, and every step that its guest makes there. Who forces vCPUs
    /// out takes it while holding `mmuLock`, so nothing inside it may wait for any other lock of the machine.
    let guestLock = Lock()
    var isInGuest = false
    /// What VP.ENTER returned when the vCPU left the guest last.
    var exitRegisters = Registers()

    /// kvm_run.immediate_exit
    let immediateExit = Atomic(false)
    /// An event, such as a posted interrupt, waits for the guest.
    let hasPendingEvent = Atomic(false)
    // Userspace's answers, written between two KVM_RUN by whoever owns the descriptor.
    private let answers = Mutex<(hypercall: UInt64?, input: [UInt8], tdx: TDXAnswer?)>((nil, [], nil))
    /// A VMM's kvm_run, whose `immediate_exit` counts like `immediateExit`: the address of the byte, 0 for none.
    private let immediateExitByte = Atomic<UInt>(0)
    /// Where a vCPU that halted waits.
    let haltWake = Semaphore()

    init(id: UInt32, processor: LogicalProcessorID) {
        self.id = id
        self.processor = processor
    }

    /// The guest must come out: userspace or the end of the VM wants the vCPU.
    func wantsExit(_ machine: TDXMachine) -> Bool { isExitRequested || machine.dead }

    /// `immediate_exit`, by whichever way it was set.
    var isExitRequested: Bool {
        if immediateExit.load(ordering: .acquiring) { return true }
        guard let byte = UnsafeRawPointer(bitPattern: immediateExitByte.load(ordering: .acquiring)) else {
            return false
        }
        return RunPage.isImmediateExitSet(at: byte)
    }

    /// Has the byte at `address` count as `immediate_exit`, too; nil for none. It must stay readable.
    func watchImmediateExit(at address: UnsafeRawPointer?) {
        immediateExitByte.store(UInt(bitPattern: address), ordering: .releasing)
    }

    /// Takes the vCPU out of the guest. `guestLock` is held.
    func leaveGuest(_ exit: TDExit, _ machine: TDXMachine) {
        isInGuest = false
        machine.host.module.exit(exit, vcpu: tdvpr!, into: &exitRegisters)
    }

    func setHypercallResult(_ value: UInt64) { answers.withLock { $0.hypercall = value } }
    func setInput(_ data: [UInt8]) { answers.withLock { $0.input = data } }
    func setTDXAnswer(_ answer: TDXAnswer?) { answers.withLock { $0.tdx = answer } }

    /// Nil where userspace gave none.
    func takeTDXAnswer() -> TDXAnswer? {
        answers.withLock { answers in
            defer { answers.tdx = nil }
            return answers.tdx
        }
    }

    /// The answer to a hypercall exit; the kernel zeroes it before the exit, so no answer is success.
    func takeHypercallResult() -> UInt64 {
        answers.withLock { answers in
            defer { answers.hypercall = nil }
            return answers.hypercall ?? 0
        }
    }

    func takeInput() -> [UInt8] {
        answers.withLock { answers in
            defer { answers.input = [] }
            return answers.input
        }
    }
}

/// An exit to userspace that the next KVM_RUN completes.
enum PendingExit {
    /// MapGPA: what is left of the guest's request, its first chunk being what userspace decides about.
    case mapGPA(MapGPARequest)
    /// Input of this many bytes, from a port or a device's memory.
    case input(size: Int)
    /// A TDVMCALL that userspace may answer; without an answer the kernel's preset stands.
    case tdx(TDXExit)
}

/// TDG.VP.VMCALL<MapGPA>, checked: what is left of it. Addresses are as the guest passed them, with the shared bit.
struct MapGPARequest {
    var next: UInt64
    /// The first address after the request.
    let end: UInt64
    let sharedBit: UInt64

    /// The guest never gets more than this decided at once: 512 pages.
    static let largestChunk: UInt64 = 2 << 20

    /// The piece that one exit covers, without the shared bit.
    var chunk: GuestPhysicalRange {
        GuestPhysicalRange(
            start: GuestPhysicalAddress(next & ~sharedBit), size: ByteCount(min(end - next, Self.largestChunk)))
    }

    var isPrivate: Bool { next & sharedBit == 0 }
}
