internal import KVM
internal import MemoryUnits
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

    // Changed inside all locks, or by destruction.
    var state = State.uninitialized
    /// The module may hold the vCPU associated with `processor`.
    var mayBeAssociated = false
    var tdvpr: HostPhysicalAddress?
    var controlPages: [HostPhysicalAddress] = []
    // Changed inside `mutex`.
    var cpuid: [CPUIDEntry] = []

    init(id: UInt32, processor: LogicalProcessorID) {
        self.id = id
        self.processor = processor
    }
}
