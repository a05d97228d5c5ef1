internal import CKVM
package import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// A vCPU of /dev/kvm.
///
/// One thread at a time runs it; `setImmediateExit` may be called from any thread at any time.
public final class KernelVirtualCPU: KVMVirtualCPU {
    public let id: UInt32
    let descriptor: KVMDescriptor
    /// struct kvm_run and the pages after it. It holds a reference to the VM, so it goes with the descriptor.
    private let runArea: FileMapping

    package init(
        _ file: consuming OwnedDescriptor, id: UInt32, runSize: UInt64, door: @escaping KVMDoor
    ) throws(KVMError) {
        self.id = id
        let area: FileMapping
        do throws(LinuxError) {
            area = try FileMapping(descriptor: file.rawValue, size: ByteCount(runSize))
        } catch {
            throw KVMError(error)
        }
        runArea = area
        descriptor = KVMDescriptor(file, kind: "vCPU", door: door) { area.unmap() }
    }

    // MARK: - Registers

    public func setCPUID(_ entries: [CPUIDEntry]) throws(KVMError) {
        let buffer = CPUIDBuffer(headerSize: MemoryLayout<Ioctls.CPUIDHeader>.size, countOffset: 0, entries)
        try buffer.withPointer { pointer throws(KVMError) in
            _ = try descriptor.call(Ioctls.setCPUID2.request, at: pointer, "\(entries.count) leaves")
        }
    }

    public func start(mode: VCPUMode, registers: VCPURegisters) throws(KVMError) {
        var special = kvm_sregs()
        try descriptor.call(Ioctls.getSpecialRegisters, &special)
        special.enter(mode)
        try descriptor.call(Ioctls.setSpecialRegisters, &special, "\(mode)")
        var raw = kvm_regs(registers)
        try descriptor.call(Ioctls.setRegisters, &raw)
    }

    public func registers() throws(KVMError) -> VCPURegisters {
        var raw = kvm_regs()
        try descriptor.call(Ioctls.getRegisters, &raw)
        return VCPURegisters(raw)
    }

    // MARK: - Running

    public func run() throws(KVMError) -> VCPUExit {
        try withRunArea(Ioctls.run.name) { area throws(KVMError) in
            tdxd_run_clear_exit_reason(area.baseAddress)
            let result = try descriptor.attempt(Ioctls.run, at: nil)
            if result >= 0 { return area.exit() }
            let errno = Errno(rawValue: -result)
            switch errno {
            case .interrupted:
                return .interrupted
            case .badAddress, Errno(rawValue: 133):
                // The one exit that comes with an error. With any other error the exit reason is a leftover.
                if let fault = area.memoryFault() { return fault }
            default:
                break
            }
            throw KVMError(Ioctls.run.name, errno, detail: "vCPU \(id)")
        }
    }

    public func completeInput(_ data: [UInt8]) {
        _ = try? withRunArea("completeInput") { area throws(KVMError) in area.completeInput(data) }
    }

    public func completeHypercall(_ result: UInt64) {
        _ = try? withRunArea("completeHypercall") { area throws(KVMError) in area.completeHypercall(result) }
    }

    public func completeTDX(_ answer: TDXAnswer) {
        _ = try? withRunArea("completeTDX") { area throws(KVMError) in area.completeTDX(answer) }
    }

    public func setImmediateExit(_ on: Bool) {
        _ = try? withRunArea("setImmediateExit") { area throws(KVMError) in
            tdxd_run_set_immediate_exit(area.baseAddress, on ? 1 : 0)
        }
    }

    public func close() { descriptor.close() }

    /// The run area stays mapped as long as a call uses the descriptor.
    private func withRunArea<Result>(
        _ operation: String, _ body: (RunArea) throws(KVMError) -> Result
    ) throws(KVMError) -> Result {
        try descriptor.use(operation) { _ throws(KVMError) in
            try body(RunArea(baseAddress: runArea.baseAddress, size: Int(runArea.size.rawValue)))
        }
    }
}
