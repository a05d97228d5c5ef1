internal import KVM
internal import SystemPackage

extension TDXMachine {
    /// KVM_TDX_TERMINATE_VM as proposed: no vCPU may be inside KVM_RUN (EBUSY), the VM becomes dead, and the key id is
    /// released, so that pages leave by one RECLAIM each from now on. Source: reference/kvm.md §5.3.
    func terminate() throws(KVMError) {
        let name = TDXCommand.terminateVM.rule.name
        try enter(name)
        if host.configuration.terminate == .absent {
            // Unknown commands are refused inside the guard.
            try withAllLocks(name) { () throws(KVMError) in
                throw KVMError(name, .invalidArgument, detail: "this kernel has no such command")
            }
        }
        try kvmLock.withLock { () throws(KVMError) in
            if busyTerminations > 0 {
                busyTerminations -= 1
                throw KVMError(name, .resourceBusy, detail: "a vCPU is in use")
            }
            var held: [VCPUCore] = []
            defer { held.forEach { $0.mutex.unlock() } }
            for vcpu in vcpus {
                guard vcpu.mutex.tryLock() else {
                    throw KVMError(name, .resourceBusy, detail: "vCPU \(vcpu.id) is in use")
                }
                held.append(vcpu)
            }
            markDead()
        }
        mmuLock.withWriteLock { _ = releaseKeyID() }
    }
}
