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

    let guestMode: GuestMode

    // Changed inside all locks, the pages inside `mmuLock` for writing too; or by destruction.
    var state = State.uninitialized
    var initialRCX: UInt64 = 0
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

    /// An event, such as a posted interrupt, waits for the guest.
    let hasPendingEvent = Atomic(false)
    // Userspace's answers, written between two KVM_RUN by whoever owns the descriptor.
    private let answers = Mutex<(hypercall: UInt64?, input: [UInt8], tdx: TDXAnswer?)>((nil, [], nil))
    /// Where a vCPU that halted waits.
    let haltWake = Semaphore()

    init(id: UInt32, processor: LogicalProcessorID, guestMode: GuestMode) {
        self.id = id
        self.processor = processor
        self.guestMode = guestMode
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
