internal import LinuxSystem
internal import SystemPackage

/// Finds out whether the kernel has KVM_TDX_TERMINATE_VM.
///
/// The command was proposed with number 6 and a bit in `supported_caps`, and no released kernel has it. A set bit is
/// believed. Otherwise the command is made on a throw-away VM of type 5 that has no TD yet: every posted revision
/// marks such a VM dead and answers 0, Linux 7.2 answers EINVAL. No SEAMCALL is made and no key id is taken, so that
/// nothing can fail in a way that the kernel warns of; a host with `panic_on_warn` must survive a probe.
///
/// A kernel that had the command unannounced and wanted a finalized TD would answer EINVAL, too, and counts as one without
/// it: a TD's pages then leave one by one, which is slower and safe.
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
            return Finding(nil, "no throw-away VM could be made: \(error)")
        }
        defer { vm.close() }
        do throws(KVMError) {
            try vm.tdxTerminate()
            return Finding(.supported, "a throw-away VM without a TD was terminated")
        } catch {
            switch error.errno {
            case .invalidArgument, .inappropriateIOCTLForDevice, .notSupportedOnSocket:
                return Finding(.absent, "on a throw-away VM without a TD: \(error)")
            default:
                return Finding(nil, "on a throw-away VM without a TD: \(error)")
            }
        }
    }
}
