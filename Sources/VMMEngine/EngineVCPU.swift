internal import CKVM
internal import CLinux
internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXEmulator

/// A vCPU of a VMM: the emulator's, and a real one, whose kvm_run the VMM has mapped.
final class EngineVCPU: EngineObject, @unchecked Sendable {
    let emulated: EmulatedVirtualCPU
    let machine: EngineMachine
    /// The pages of the real vCPU's kvm_run once more, which are those of the VMM's own mapping.
    private let area: FileMapping
    let page: RunPage
    /// One KVM_RUN at a time, as in the kernel; with what the last one left for the VMM to answer.
    let running = Mutex<VCPUExit?>(nil)

    init?(_ emulated: EmulatedVirtualCPU, _ machine: EngineMachine, _ area: FileMapping) {
        guard let page = RunPage(baseAddress: area.baseAddress, size: Int(area.size.rawValue)) else { return nil }
        self.emulated = emulated
        self.machine = machine
        self.area = area
        self.page = page
        emulated.watchImmediateExit(at: UnsafeRawPointer(area.baseAddress + 1))
    }

    override func release() {
        machine.vcpus.withLock { $0.removeAll { $0 === self } }
        // A thread that is inside KVM_RUN goes on to use the page: it keeps this object, and the mapping with it.
        emulated.close()
    }

    deinit { emulated.watchImmediateExit(at: nil) }
}

extension VMMEngine {
    /// What is not asked of a TD's vCPU: its state is protected.
    private static let protectedState: Set<UInt32> = [
        0x8090_AE81, 0x4090_AE82,  // GET_REGS, SET_REGS
        0x8138_AE83, 0x4138_AE84,  // GET_SREGS, SET_SREGS
        0x8140_AECC, 0x4140_AECD,  // GET_SREGS2, SET_SREGS2
        0x8080_AEA1, 0x4080_AEA2,  // GET_DEBUGREGS, SET_DEBUGREGS
    ]
    private static let getTSCFrequency: UInt32 = 0xAEA3

    func createVCPU(_ machine: EngineMachine, _ number: Int32, _ argument: UInt) throws(EngineErrno) -> Int32 {
        let id = UInt32(truncatingIfNeeded: argument)
        let emulated = try kvm { () throws(KVMError) in try machine.emulated.createVCPU(id: id) }
        guard let emulated = emulated as? EmulatedVirtualCPU else { throw .invalid }
        do throws(EngineErrno) {
            let real = tdxd_ioctl_value(number, Ioctls.createVCPU.number, UInt64(id))
            guard real >= 0 else { throw EngineErrno(rawValue: -real) }
            let file = OwnedDescriptor(taking: real)
            let vcpu: EngineVCPU?
            do throws(LinuxError) {
                let area = try FileMapping(descriptor: file.rawValue, size: ByteCount(UInt64(runSize)))
                vcpu = EngineVCPU(emulated, machine, area)
            } catch {
                throw EngineErrno(rawValue: error.errno.rawValue)
            }
            guard let vcpu else { throw .invalid }
            let given = file.relinquish()
            machine.vcpus.withLock { $0.append(vcpu) }
            machine.counts.addVCPU()
            track(given, vcpu)
            return given
        } catch {
            emulated.close()
            throw error
        }
    }

    /// Bytes of a kvm_run mapping.
    private var runSize: Int32 {
        // What every x86 kernel has.
        12_288
    }

    func vcpu(
        _ vcpu: EngineVCPU, _ number: Int32, _ request: UInt32, _ argument: UInt
    ) throws(EngineErrno) -> Int32? {
        switch request {
        case Ioctls.run.number:
            guard argument == 0 else { throw .invalid }
            return run(vcpu)
        case Ioctls.memoryEncryptOperation.request.number: return try command(vcpu, argument)
        case Ioctls.setCPUID2.request.number: return try setCPUID(vcpu, number, request, argument)
        case Ioctls.preFaultMemory.request.number: return try preFault(vcpu, argument)
        case Ioctls.getStatsFD.number: return statistics(vcpu.machine, number, request)
        case Self.getTSCFrequency: return Int32(vcpu.machine.kilohertz.load(ordering: .relaxed))
        case let other where Self.protectedState.contains(other): throw .invalid
        default: return nil
        }
    }

    private func run(_ vcpu: EngineVCPU) -> Int32 {
        vcpu.running.withLock { last in
            switch last {
            case .hypercall: vcpu.emulated.completeHypercall(vcpu.page.hypercallResult)
            case .tdx: vcpu.emulated.completeTDX(vcpu.page.tdxAnswer)
            case .io(isWrite: false, _, _, _), .mmio(isWrite: false, _, _):
                vcpu.emulated.completeInput(vcpu.page.input(for: last!))
            default: break
            }
            last = nil
            let exit: VCPUExit
            do throws(KVMError) {
                exit = try vcpu.emulated.run()
            } catch {
                vcpu.machine.counts.note(
                    "\(error.operation) on vCPU \(vcpu.emulated.id): \(error.errno), \(error.detail)")
                return -error.errno.rawValue
            }
            vcpu.page.store(exit)
            vcpu.machine.counts.add(exit)
            switch exit {
            case .interrupted: return -EngineErrno.interrupted.rawValue
            case .memoryFault: return -EngineErrno.fault.rawValue
            default:
                last = exit
                return 0
            }
        }
    }

    private func setCPUID(
        _ vcpu: EngineVCPU, _ number: Int32, _ request: UInt32, _ argument: UInt
    ) throws(EngineErrno) -> Int32 {
        var count: UInt32 = 0
        try memory.load(argument, &count)
        guard count <= Self.maximumCPUIDEntries else { throw .tooBig }
        let entries = try memory.cpuid(argument &+ 8, count: Int(count))
        try kvm { () throws(KVMError) in try vcpu.emulated.setCPUID(entries) }
        // The real vCPU never runs; what it makes of a TD's list decides nothing.
        _ = kernelAnswer(number, request, argument)
        return 0
    }

    private func preFault(_ vcpu: EngineVCPU, _ argument: UInt) throws(EngineErrno) -> Int32 {
        var block = tdxd_kvm_pre_fault_memory()
        try memory.load(argument, &block)
        let page = UInt64(pageSize)
        guard block.flags == 0, block.gpa % page == 0, block.size % page == 0, block.size > 0,
            block.gpa <= UInt64.max - block.size
        else { throw .invalid }
        // As in the kernel the answer is what was done, and a refusal only where nothing was.
        var done: UInt64 = 0
        var refusal: EngineErrno?
        while done < block.size, refusal == nil {
            let part = min(block.size - done, 2 << 20)
            let range = GuestPhysicalRange(start: GuestPhysicalAddress(block.gpa + done), size: ByteCount(part))
            do throws(EngineErrno) {
                try kvm { () throws(KVMError) in try vcpu.emulated.preFault(range) }
                done += part
            } catch {
                refusal = error
            }
        }
        block.gpa += done
        block.size -= done
        try memory.store(argument, block)
        if done == 0, let refusal { throw refusal }
        return 0
    }
}
