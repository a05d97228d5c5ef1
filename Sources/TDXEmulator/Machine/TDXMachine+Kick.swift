internal import Synchronization
internal import TDXModule

extension TDXMachine {
    /// Forces every vCPU out of guest mode once, as the kernel's OUTSIDE_GUEST_MODE request does. `mmuLock` is held for
    /// writing. A step that a guest is in ends first.
    func kickVCPUs() {
        for vcpu in vcpus {
            vcpu.guestLock.withLock { if vcpu.isInGuest { vcpu.leaveGuest(.externalInterrupt, self) } }
        }
    }

    /// Forces every vCPU out and keeps them out until `letVCPUsIn` (the kernel's wait_for_sept_zap).
    func holdVCPUsOut() {
        zapsWaiting.wrappingAdd(1, ordering: .acquiringAndReleasing)
        kickVCPUs()
    }

    func letVCPUsIn() { zapsWaiting.wrappingSubtract(1, ordering: .acquiringAndReleasing) }
}
