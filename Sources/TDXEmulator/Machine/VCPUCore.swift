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
    /// The registers that the guest gets back from its last VMCALL.
    var answer = VMCallAnswer()
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
    private let answers = Mutex<(hypercall: UInt64?, input: [UInt8])>((nil, []))

    init(id: UInt32, processor: LogicalProcessorID) {
        self.id = id
        self.processor = processor
    }

    /// The guest must come out: userspace or the end of the VM wants the vCPU.
    func wantsExit(_ machine: TDXMachine) -> Bool {
        immediateExit.load(ordering: .relaxed) || machine.dead
    }

    /// Takes the vCPU out of the guest. `guestLock` is held.
    func leaveGuest(_ exit: TDExit, _ machine: TDXMachine) {
        isInGuest = false
        machine.host.module.exit(exit, vcpu: tdvpr!, into: &exitRegisters)
    }

    func setHypercallResult(_ value: UInt64) { answers.withLock { $0.hypercall = value } }
    func setInput(_ data: [UInt8]) { answers.withLock { $0.input = data } }

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

/// R10 to R15 as the host sets them before it enters a guest that made a VMCALL.
struct VMCallAnswer {
    var r10: UInt64 = 0
    var r11: UInt64 = 0
    var r12: UInt64 = 0
    var r13: UInt64 = 0
    var r14: UInt64 = 0

    /// As the guest finds them: RAX 0, RCX kept.
    func apply(to registers: inout Registers) {
        registers.rax = 0
        registers.r10 = r10
        registers.r11 = r11
        registers.r12 = r12
        registers.r13 = r13
        registers.r14 = r14
    }
}

/// An exit to userspace that the next KVM_RUN completes.
enum PendingExit {
    /// MapGPA: the chunk that userspace decides about, and the end of what the guest asked for.
    case mapGPA(MapGPARequest, chunk: GuestPhysicalRange)
    /// Port input of this many bytes.
    case input(size: Int)
    /// A VMCALL that userspace cannot answer through the seam: the status preset by the kernel stands.
    case preset(status: UInt64)
    /// Nothing is left to do.
    case none
}

/// TDG.VP.VMCALL<MapGPA>, checked.
struct MapGPARequest {
    /// Without the shared bit.
    var range: GuestPhysicalRange
    /// The shared bit of the request, or 0.
    var sharedBit: UInt64

    /// The guest never gets more than this decided at once: 512 pages.
    static let largestChunk = ByteCount.mebibytes(2)

    /// R11 for an address of the range.
    func register(_ address: GuestPhysicalAddress) -> UInt64 { address.rawValue | sharedBit }

    /// The piece from an address on that one exit covers.
    func chunk(at address: GuestPhysicalAddress) -> GuestPhysicalRange {
        GuestPhysicalRange(start: address, size: min(range.end - address, Self.largestChunk))
    }
}
