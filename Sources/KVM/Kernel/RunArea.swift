internal import CKVM
internal import MemoryUnits

/// What KVM wrote into struct kvm_run, decoded; and the answers that it reads from there.
///
/// The area is shared with the kernel, which writes only during KVM_RUN: the thread that runs the vCPU reads it between
/// runs. Offsets come from the kernel's ABI (`TDXD_KVM_RUN_EXIT` and the structures of the door).
struct RunArea {
    let baseAddress: UnsafeMutableRawPointer
    /// In bytes: the run page, the port-I/O page and whatever follows.
    let size: Int

    private var union: UnsafeMutableRawPointer { baseAddress + Int(TDXD_KVM_RUN_EXIT) }
    private func load<Value: BitwiseCopyable>(_ offset: Int, as type: Value.Type) -> Value {
        union.loadUnaligned(fromByteOffset: offset, as: type)
    }

    /// The exit of a KVM_RUN that returned 0.
    func exit() -> VCPUExit {
        let reason = tdxd_run_exit_reason(baseAddress)
        switch Int32(bitPattern: reason) {
        case TDXD_KVM_EXIT_IO:
            let port = portAccess()
            return .io(
                isWrite: port.isWrite, size: port.size, port: port.number,
                data: port.isWrite ? bytes(at: port.dataOffset, count: port.size * port.count) : [])
        case TDXD_KVM_EXIT_MMIO:
            let length = min(8, Int(load(16, as: UInt32.self)))
            let isWrite = load(20, as: UInt8.self) != 0
            return .mmio(
                isWrite: isWrite, address: GuestPhysicalAddress(load(0, as: UInt64.self)),
                // A read carries its length, so that whoever answers knows how much is wanted.
                data: isWrite
                    ? bytes(at: Int(TDXD_KVM_RUN_EXIT) + 8, count: length) : .init(repeating: 0, count: length))
        case TDXD_KVM_EXIT_HYPERCALL:
            let call = load(0, as: tdxd_kvm_exit_hypercall.self)
            let (a, b, c, d, e, f) = call.args
            return .hypercall(number: call.nr, arguments: [a, b, c, d, e, f])
        case TDXD_KVM_EXIT_HLT: return .halt
        case TDXD_KVM_EXIT_SHUTDOWN: return .shutdown
        case TDXD_KVM_EXIT_INTR: return .interrupted
        case TDXD_KVM_EXIT_SYSTEM_EVENT:
            return .systemEvent(type: load(0, as: UInt32.self), data: countedWords())
        case TDXD_KVM_EXIT_INTERNAL_ERROR:
            return .internalError(subcode: load(0, as: UInt32.self), data: countedWords())
        case TDXD_KVM_EXIT_TDX:
            return .tdx(tdxExit())
        case TDXD_KVM_EXIT_FAIL_ENTRY: return .failedEntry(reason: load(0, as: UInt64.self))
        case TDXD_KVM_EXIT_MEMORY_FAULT: return memoryFault() ?? .other(reason: reason)
        default: return .other(reason: reason)
        }
    }

    /// Nil when the last exit was another.
    func memoryFault() -> VCPUExit? {
        guard tdxd_run_exit_reason(baseAddress) == UInt32(TDXD_KVM_EXIT_MEMORY_FAULT) else { return nil }
        let fault = load(0, as: tdxd_kvm_exit_memory_fault.self)
        return .memoryFault(
            isPrivate: fault.flags & UInt64(TDXD_KVM_MEMORY_EXIT_FLAG_PRIVATE) != 0,
            address: GuestPhysicalAddress(fault.gpa), size: ByteCount(fault.size))
    }

    /// Puts what the guest reads where KVM looks for it: after the run page for a port, in the union for memory.
    func completeInput(_ data: [UInt8]) {
        switch Int32(bitPattern: tdxd_run_exit_reason(baseAddress)) {
        case TDXD_KVM_EXIT_IO:
            let port = portAccess()
            precondition(!port.isWrite, "the guest wrote to port \(port.number)")
            precondition(data.count == port.size * port.count, "port \(port.number): \(port.size * port.count) bytes")
            store(data, at: port.dataOffset)
        case TDXD_KVM_EXIT_MMIO:
            let length = Int(load(16, as: UInt32.self))
            precondition(load(20, as: UInt8.self) == 0, "the guest wrote to memory")
            precondition(data.count == length && length <= 8, "the guest reads \(length) bytes")
            store(data, at: Int(TDXD_KVM_RUN_EXIT) + 8)
        case let reason:
            preconditionFailure("exit \(reason) asks for no input")
        }
    }

    func completeHypercall(_ result: UInt64) {
        precondition(
            tdxd_run_exit_reason(baseAddress) == UInt32(TDXD_KVM_EXIT_HYPERCALL), "the last exit was no hypercall")
        union.storeBytes(of: result, toByteOffset: 56, as: UInt64.self)
    }

    /// Only GetTdVmCallInfo has room for more than the status.
    func completeTDX(_ answer: TDXAnswer) {
        precondition(
            tdxd_run_exit_reason(baseAddress) == UInt32(TDXD_KVM_EXIT_TDX), "the last exit was no TDVMCALL")
        var exit = load(0, as: tdxd_kvm_exit_tdx.self)
        exit.arguments.0 = answer.status.rawValue
        if exit.nr == TDXExit.getTDVMCallInfoNumber {
            exit.arguments = (
                exit.arguments.0, exit.arguments.1, answer.r11, answer.r12, answer.r13, answer.r14
            )
        }
        union.storeBytes(of: exit, as: tdxd_kvm_exit_tdx.self)
    }

    private func tdxExit() -> TDXExit {
        let exit = load(0, as: tdxd_kvm_exit_tdx.self)
        // Word 0 is the answer's status.
        let (_, first, second, _, _, _) = exit.arguments
        switch exit.nr {
        case TDXExit.getTDVMCallInfoNumber: return .getTDVMCallInfo(leaf: first)
        case TDXExit.getQuoteNumber: return .getQuote(buffer: GuestPhysicalAddress(first), size: second)
        case TDXExit.setupEventNotifyNumber: return .setupEventNotify(vector: first)
        default: return .other(number: exit.nr, flags: exit.flags)
        }
    }

    private func portAccess() -> (isWrite: Bool, size: Int, number: UInt16, count: Int, dataOffset: Int) {
        (
            load(0, as: UInt8.self) != 0, Int(load(1, as: UInt8.self)), load(2, as: UInt16.self),
            Int(load(4, as: UInt32.self)), Int(load(8, as: UInt64.self))
        )
    }

    /// `ndata` words, as internal errors and system events carry them.
    private func countedWords() -> [UInt64] {
        let count = min(16, Int(load(4, as: UInt32.self)))
        return (0..<count).map { load(8 + 8 * $0, as: UInt64.self) }
    }

    private func bytes(at offset: Int, count: Int) -> [UInt8] {
        precondition(offset >= 0 && count <= size - offset, "KVM names data outside the run area")
        return Array(UnsafeRawBufferPointer(start: baseAddress + offset, count: count))
    }

    private func store(_ data: [UInt8], at offset: Int) {
        precondition(offset >= 0 && data.count <= size - offset, "KVM names data outside the run area")
        data.withUnsafeBytes { (baseAddress + offset).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
}
