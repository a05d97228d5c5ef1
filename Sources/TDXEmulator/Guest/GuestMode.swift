internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import TDXModule

/// Whether one vCPU is inside its guest, and what the guest's thread and the kernel share about that.
final class GuestMode: @unchecked Sendable {
    let module: TDXModule
    let frames: HostFrames
    private let vmDead: DeadFlag

    /// Innermost lock: whether the vCPU is inside the guest, and every step that its guest makes there. Who forces vCPUs
    /// out takes it while holding `mmuLock`, so nothing inside it may wait for any other lock of the machine.
    let lock = Lock()

    // Sound: changed inside `lock`, inside the vCPU's mutex, or by destruction.
    var isInside = false
    /// The vCPU's root page. Changed inside all locks and `mmuLock` for writing, or by destruction.
    var tdvpr: HostPhysicalAddress?
    /// What VP.ENTER returned when the vCPU left the guest last.
    var exitRegisters = Registers()
    /// What the guest's last access to shared memory gave; nil when it was not performed and starts again.
    var sharedResult: [UInt8]?

    /// kvm_run.immediate_exit
    let immediateExit = Atomic(false)
    /// A VMM's kvm_run, whose `immediate_exit` counts like `immediateExit`: the address of the byte, 0 for none.
    private let immediateExitByte = Atomic<UInt>(0)

    init(module: TDXModule, frames: HostFrames, vmDead: DeadFlag) {
        self.module = module
        self.frames = frames
        self.vmDead = vmDead
    }

    /// The guest must come out: userspace or the end of the VM wants the vCPU.
    var wantsExit: Bool { isExitRequested || vmDead.isSet }

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

    /// Takes the vCPU out of the guest, if it is inside.
    func leaveIfInside(_ exit: TDExit) { lock.withLock { if isInside { leave(exit) } } }

    /// Takes the vCPU out of the guest. `lock` is held.
    func leave(_ exit: TDExit) {
        isInside = false
        module.exit(exit, vcpu: tdvpr!, into: &exitRegisters)
    }
}

/// kvm->vm_dead: set once, for good.
final class DeadFlag: Sendable {
    private let value = Atomic(false)

    var isSet: Bool { value.load(ordering: .acquiring) }

    func set() { value.store(true, ordering: .releasing) }
}
