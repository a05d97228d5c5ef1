internal import CKVM
internal import MemoryUnits

/// The kernel's side of struct kvm_run, for one that stands in for the kernel: exits are written, answers are read.
///
/// The page is the VMM's as well: what is read from it is what the VMM wrote, whatever that is.
package struct RunPage {
    private let area: RunArea
    private var union: UnsafeMutableRawPointer { area.baseAddress + Int(TDXD_KVM_RUN_EXIT) }
    /// Where the data of port accesses lies: the page after struct kvm_run, as in Linux.
    private static let portDataOffset = 4096

    /// - Parameters:
    ///   - baseAddress: the mapping of a vCPU's descriptor.
    ///   - size: in bytes, at least 8,192.
    package init?(baseAddress: UnsafeMutableRawPointer, size: Int) {
        guard size >= Self.portDataOffset * 2 else { return nil }
        area = RunArea(baseAddress: baseAddress, size: size)
    }

    /// `immediate_exit`, which other threads of the VMM may set at any moment.
    package var immediateExit: Bool { Self.isImmediateExitSet(at: area.baseAddress + 1) }

    /// `immediate_exit`, by the address of its byte.
    package static func isImmediateExitSet(at byte: UnsafeRawPointer) -> Bool { tdxd_run_immediate_exit(byte) != 0 }

    /// Writes an exit as KVM_RUN leaves it. `.interrupted` leaves the page as it is: Linux then writes INTR or nothing.
    package func store(_ exit: VCPUExit) {
        switch exit {
        case .io(let isWrite, let size, let port, let data):
            put(isWrite ? 1 : 0, at: 0, as: UInt8.self)
            put(UInt8(clamping: size), at: 1, as: UInt8.self)
            put(port, at: 2, as: UInt16.self)
            let count = data.isEmpty || size == 0 ? 1 : max(1, data.count / size)
            put(UInt32(clamping: count), at: 4, as: UInt32.self)
            put(UInt64(Self.portDataOffset), at: 8, as: UInt64.self)
            write(isWrite ? data : [], at: Self.portDataOffset)
            setReason(TDXD_KVM_EXIT_IO)
        case .mmio(let isWrite, let address, let data):
            put(address.rawValue, at: 0, as: UInt64.self)
            put(0, at: 8, as: UInt64.self)
            write(isWrite ? Array(data.prefix(8)) : [], at: Int(TDXD_KVM_RUN_EXIT) + 8)
            put(UInt32(min(8, data.count)), at: 16, as: UInt32.self)
            put(isWrite ? 1 : 0, at: 20, as: UInt8.self)
            setReason(TDXD_KVM_EXIT_MMIO)
        case .hypercall(let number, let arguments):
            var call = tdxd_kvm_exit_hypercall()
            call.nr = number
            let padded = Array(arguments.prefix(6)) + [UInt64](repeating: 0, count: max(0, 6 - arguments.count))
            call.args = (padded[0], padded[1], padded[2], padded[3], padded[4], padded[5])
            // Bit 0: long mode. `ret` is 0, so that a VMM that does not write it grants the call.
            call.flags = 1
            union.storeBytes(of: call, as: tdxd_kvm_exit_hypercall.self)
            setReason(TDXD_KVM_EXIT_HYPERCALL)
        case .halt: setReason(TDXD_KVM_EXIT_HLT)
        case .shutdown: setReason(TDXD_KVM_EXIT_SHUTDOWN)
        case .memoryFault(let isPrivate, let address, let size):
            let fault = tdxd_kvm_exit_memory_fault(
                flags: isPrivate ? UInt64(TDXD_KVM_MEMORY_EXIT_FLAG_PRIVATE) : 0, gpa: address.rawValue,
                size: size.rawValue)
            union.storeBytes(of: fault, as: tdxd_kvm_exit_memory_fault.self)
            setReason(TDXD_KVM_EXIT_MEMORY_FAULT)
        case .systemEvent(let type, let data): countedWords(type, data, TDXD_KVM_EXIT_SYSTEM_EVENT)
        case .internalError(let subcode, let data): countedWords(subcode, data, TDXD_KVM_EXIT_INTERNAL_ERROR)
        case .tdx(let exit): store(exit)
        case .failedEntry(let reason):
            put(reason, at: 0, as: UInt64.self)
            put(0, at: 8, as: UInt32.self)
            setReason(TDXD_KVM_EXIT_FAIL_ENTRY)
        case .interrupted: break
        case .other(let reason): setReason(Int32(truncatingIfNeeded: reason))
        }
    }

    private func store(_ exit: TDXExit) {
        var words = tdxd_kvm_exit_tdx()
        words.nr = exit.number
        words.arguments.0 = exit.preset.status.rawValue
        switch exit {
        case .getTDVMCallInfo(let leaf): words.arguments.1 = leaf
        case .getQuote(let buffer, let size): (words.arguments.1, words.arguments.2) = (buffer.rawValue, size)
        case .setupEventNotify(let vector): words.arguments.1 = vector
        case .other(_, let flags): words.flags = flags
        }
        union.storeBytes(of: words, as: tdxd_kvm_exit_tdx.self)
        setReason(TDXD_KVM_EXIT_TDX)
    }

    // MARK: Answers

    /// What the VMM left in `hypercall.ret`.
    package var hypercallResult: UInt64 { union.loadUnaligned(fromByteOffset: 56, as: UInt64.self) }

    /// What the VMM left in the answer of a TDVMCALL.
    package var tdxAnswer: TDXAnswer {
        let words = union.loadUnaligned(as: tdxd_kvm_exit_tdx.self).arguments
        return TDXAnswer(TDVMCallStatus(rawValue: words.0), r11: words.2, r12: words.3, r13: words.4, r14: words.5)
    }

    /// What the VMM answered to the input that `exit` asked for; empty where it asked for none.
    package func input(for exit: VCPUExit) -> [UInt8] {
        switch exit {
        case .io(false, let size, _, let data):
            return bytes(at: Self.portDataOffset, count: max(size, data.count))
        case .mmio(false, _, let data):
            return bytes(at: Int(TDXD_KVM_RUN_EXIT) + 8, count: min(8, data.count))
        default: return []
        }
    }

    private func put<Value: BitwiseCopyable>(_ value: Value, at offset: Int, as type: Value.Type) {
        union.storeBytes(of: value, toByteOffset: offset, as: type)
    }

    private func countedWords(_ type: UInt32, _ data: [UInt64], _ reason: Int32) {
        put(type, at: 0, as: UInt32.self)
        put(UInt32(min(16, data.count)), at: 4, as: UInt32.self)
        for (index, word) in data.prefix(16).enumerated() { put(word, at: 8 + 8 * index, as: UInt64.self) }
        setReason(reason)
    }

    private func write(_ data: [UInt8], at offset: Int) {
        let room = data.prefix(area.size - offset)
        room.withUnsafeBytes { source in
            if let start = source.baseAddress {
                (area.baseAddress + offset).copyMemory(from: start, byteCount: source.count)
            }
        }
    }

    private func bytes(at offset: Int, count: Int) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: area.baseAddress + offset, count: min(count, area.size - offset)))
    }

    private func setReason(_ reason: Int32) { tdxd_run_set_exit_reason(area.baseAddress, UInt32(bitPattern: reason)) }
}
