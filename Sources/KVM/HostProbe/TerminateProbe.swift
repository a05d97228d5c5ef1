internal import LinuxSystem
internal import SystemPackage

/// Finds out whether the kernel has KVM_TDX_TERMINATE_VM.
///
/// The command was proposed with number 6 and a bit in `supported_caps`, and no released kernel has it. Other kernels may
/// give the number to something else, so it is never used unasked: a set bit is believed, otherwise a throw-away TD is
/// terminated, which can hurt nobody.
enum TerminateProbe {
    static func probe(_ system: any KVMSystem, _ capabilities: TDXCapabilities?) -> Finding<TerminateCommand> {
        if let capabilities, capabilities.supportedCommands & 1 == 1 {
            return Finding(
                .supported, "supported_caps = \(hexadecimal(capabilities.supportedCommands)) has bit 0, TERMINATE_VM")
        }
        let vm: any KVMVirtualMachine
        do throws(KVMError) {
            vm = try system.createVirtualMachine(.tdx)
        } catch {
            return Finding(nil, "no throw-away TD could be made: \(error)")
        }
        defer { vm.close() }
        // Revisions of the proposal differ in the state that they want: the TD goes as far as it can.
        let state = bring(vm, capabilities)
        do throws(KVMError) {
            try vm.tdxTerminate()
            return Finding(.supported, "a throw-away TD (\(state)) was terminated")
        } catch {
            switch error.errno {
            case .invalidArgument, .inappropriateIOCTLForDevice, .notSupportedOnSocket:
                return Finding(.absent, "on a throw-away TD (\(state)): \(error)")
            default:
                return Finding(nil, "on a throw-away TD (\(state)): \(error)")
            }
        }
    }

    /// Initializes and finalizes an empty TD; says how far it came.
    private static func bring(_ vm: any KVMVirtualMachine, _ capabilities: TDXCapabilities?) -> String {
        let identity = [UInt8](repeating: 0, count: 48)
        do throws(KVMError) {
            try vm.enable(.splitIRQChip, [24])
            // Leaf 0x80000008 carries the width of guest-physical addresses, which KVM wants to be told.
            try vm.tdxInitialize(
                TDXInitialization(
                    attributes: 0, xfam: (capabilities?.supportedXFAM ?? 3) & 3, mrConfigID: identity,
                    mrOwner: identity,
                    mrOwnerConfig: identity, cpuid: [CPUIDEntry(function: 0x8000_0008, eax: 48 << 16)]))
        } catch {
            return "not initialized, \(error)"
        }
        do throws(KVMError) {
            try vm.tdxFinalize()
        } catch {
            return "initialized, not finalized, \(error)"
        }
        return "finalized"
    }
}
