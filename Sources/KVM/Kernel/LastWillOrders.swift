internal import CKVM
public import LinuxSystem

/// What a last will can do for a VM whose process is dead.
extension LastWill.Order {
    /// KVM_TDX_TERMINATE_VM. EBUSY is answered by further tries for a second: the owner's vCPUs are out of KVM_RUN by then,
    /// but a vCPU's lock may still be on its way back.
    public static let terminateTrustDomain = Self(
        request: Ioctls.memoryEncryptOperation.request.number,
        // struct kvm_tdx_cmd: id and flags, data, hw_error
        argument: .block(UInt64(TDXCommand.terminateVM.id), 0, 0), attempts: 100, isRehearsal: false)

    /// KVM_CHECK_EXTENSION of KVM_CAP_NR_MEMSLOTS: it changes nothing, and KVM lets it through, as every call of a VM, only
    /// for the address space that created the VM.
    public static let rehearsal = Self(
        request: Ioctls.checkExtension.number, argument: .number(10), isRehearsal: true)
}
