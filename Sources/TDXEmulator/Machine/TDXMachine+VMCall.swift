internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXModule

/// GHCI statuses. Source: reference/tdx-module.md §2.6.
enum GHCIStatus {
    static let success: UInt64 = 0
    static let retry: UInt64 = 1
    static let invalidOperand: UInt64 = 1 << 63
    static let alignError: UInt64 = 1 << 63 | 2
    static let subfunctionUnsupported: UInt64 = 1 << 63 | 3
}

extension TDXMachine {
    /// What the kernel makes of TDG.VP.VMCALL: an exit to userspace, or nil with the answer set.
    /// Sources: reference/kvm.md §1.6, reference/tdx-module.md §2.6.
    func handleVMCall(_ guest: Registers, _ vcpu: VCPUCore) -> VCPUExit? {
        guard guest.r10 == 0 else {
            // A KVM hypercall; none is offered to TDs: −KVM_ENOSYS.
            return answer(vcpu, UInt64(bitPattern: -1000))
        }
        switch guest.r11 {
        case 0x10000 where guest.r12 == 0: return answer(vcpu, GHCIStatus.success)
        case 0x10000: return exitToUserspace(vcpu, guest, preset: GHCIStatus.success)
        case 0x10001: return beginMapGPA(guest, vcpu)
        case 0x10002: return exitToUserspace(vcpu, guest, preset: GHCIStatus.subfunctionUnsupported)
        case 0x10003:
            vcpu.pending = .preset(status: GHCIStatus.invalidOperand)
            let data = [
                vcpu.exitRegisters.rax, guest.rcx, guest.rdx, guest.rbx, 0, 0, guest.rsi, guest.rdi, guest.r8,
                guest.r9, guest.r10, guest.r11, guest.r12, guest.r13, guest.r14, guest.r15,
            ]
            return .systemEvent(type: 7, data: data)
        case 0x10004:
            guard (32...255).contains(guest.r12) else { return answer(vcpu, GHCIStatus.invalidOperand) }
            return exitToUserspace(vcpu, guest, preset: GHCIStatus.subfunctionUnsupported)
        case 12:
            _ = answer(vcpu, GHCIStatus.success)
            return .halt
        case 30: return portAccess(guest, vcpu)
        default: return answer(vcpu, GHCIStatus.subfunctionUnsupported)
        }
    }

    /// The first thing of the next KVM_RUN: what the last exit left to do. An exit when there is more of it.
    func completePending(_ vcpu: VCPUCore) throws(KVMError) -> VCPUExit? {
        guard let pending = vcpu.pending else { return nil }
        switch pending {
        case .none: break
        case .preset(let status): _ = answer(vcpu, status)
        case .input(let size):
            let data = vcpu.takeInput().prefix(size)
            let value = data.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            _ = answer(vcpu, GHCIStatus.success, r11: value)
        case .mapGPA(let request, let chunk):
            let result = vcpu.takeHypercallResult()
            switch result {
            case 0:
                guard chunk.end < request.range.end else {
                    _ = answer(vcpu, GHCIStatus.success, r11: request.register(request.range.start))
                    break
                }
                // Only between two chunks does a waiting event cut the call short.
                if vcpu.hasPendingEvent.exchange(false, ordering: .acquiringAndReleasing) {
                    _ = answer(vcpu, GHCIStatus.retry, r11: request.register(chunk.end))
                    break
                }
                vcpu.pending = nil
                return exitForChunk(request, request.chunk(at: chunk.end), vcpu)
            case UInt64(Errno.resourceTemporarilyUnavailable.rawValue):
                _ = answer(vcpu, GHCIStatus.retry, r11: request.register(chunk.start))
            case UInt64(Errno.invalidArgument.rawValue):
                _ = answer(vcpu, GHCIStatus.invalidOperand, r11: request.register(chunk.start))
            default:
                throw KVMError("KVM_RUN", .invalidArgument, detail: "hypercall result \(result)")
            }
        }
        vcpu.pending = nil
        return nil
    }

    private func beginMapGPA(_ guest: Registers, _ vcpu: VCPUCore) -> VCPUExit? {
        let bit = domain!.sharedBit
        let (start, size) = (guest.r12, guest.r13)
        func refuse(_ status: UInt64) -> VCPUExit? { answer(vcpu, status, r11: start) }

        guard kvmLock.withLock({ hypercallExits }) & 1 << 12 != 0 else {
            return answer(vcpu, GHCIStatus.subfunctionUnsupported)
        }
        let (end, wraps) = start.addingReportingOverflow(size)
        // The guest's physical addresses end behind the shared half.
        guard size != 0, !wraps, start < bit << 1, end <= bit << 1, start & bit == (end - 1) & bit else {
            return refuse(GHCIStatus.invalidOperand)
        }
        guard start % pageSize == 0, size % pageSize == 0 else { return refuse(GHCIStatus.alignError) }
        let range = GuestPhysicalRange(start: GuestPhysicalAddress(start & ~bit), size: ByteCount(size))
        let request = MapGPARequest(range: range, sharedBit: start & bit)
        return exitForChunk(request, request.chunk(at: range.start), vcpu)
    }

    private func exitForChunk(_ request: MapGPARequest, _ chunk: GuestPhysicalRange, _ vcpu: VCPUCore) -> VCPUExit {
        // The kernel zeroes `ret` before the exit.
        vcpu.setHypercallResult(0)
        vcpu.pending = .mapGPA(request, chunk: chunk)
        // KVM_MAP_GPA_RANGE_ENCRYPTED is bit 4; the page-size code is 4 KiB.
        let attributes: UInt64 = request.sharedBit == 0 ? 1 << 4 : 0
        return .hypercall(
            number: 12, arguments: [chunk.start.rawValue, chunk.size.pages.rawValue, attributes, 0, 0, 0])
    }

    private func portAccess(_ guest: Registers, _ vcpu: VCPUCore) -> VCPUExit? {
        let size = Int(truncatingIfNeeded: guest.r12)
        guard [1, 2, 4].contains(size), guest.r13 <= 1 else { return answer(vcpu, GHCIStatus.invalidOperand) }
        let port = UInt16(truncatingIfNeeded: guest.r14)
        let isWrite = guest.r13 == 1
        let data = (0..<size).map { isWrite ? UInt8(truncatingIfNeeded: guest.r15 >> UInt64(8 * $0)) : 0 }
        if isWrite {
            _ = answer(vcpu, GHCIStatus.success)
        } else {
            vcpu.setInput(data)
            vcpu.pending = .input(size: size)
        }
        return .io(isWrite: isWrite, size: size, port: port, data: data)
    }

    private func exitToUserspace(_ vcpu: VCPUCore, _ guest: Registers, preset: UInt64) -> VCPUExit {
        vcpu.pending = .preset(status: preset)
        return .tdx(number: guest.r11, flags: 0)
    }

    /// Sets what the guest finds in R10 and R11; the other registers that it passed read 0.
    private func answer(_ vcpu: VCPUCore, _ status: UInt64, r11: UInt64 = 0) -> VCPUExit? {
        vcpu.answer = VMCallAnswer(r10: status, r11: r11)
        return nil
    }
}
