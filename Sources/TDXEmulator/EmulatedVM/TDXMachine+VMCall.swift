internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXModule

extension TDXMachine {
    /// What the kernel makes of TDG.VP.VMCALL: an exit to userspace, or nil with the answer set. Registers that have no part in
    /// an answer reach the guest as it passed them.
    /// Sources: reference/kvm.md §1.6, reference/tdx-module.md §2.6; Linux 7.2, arch/x86/kvm/vmx/tdx.c.
    func handleVMCall(_ guest: Registers, _ vcpu: VCPUCore) throws(KVMError) -> VCPUExit? {
        vcpu.callRegisters = vcpu.guestMode.exitRegisters
        guard guest.r10 == 0 else {
            // A KVM hypercall; none is offered to TDs: −KVM_ENOSYS.
            return answer(vcpu, TDVMCallStatus(rawValue: UInt64(bitPattern: -1000)))
        }
        switch guest.r11 {
        case TDXExit.getTDVMCallInfoNumber: return getTDVMCallInfo(leaf: guest.r12, vcpu)
        case 0x10001: return beginMapGPA(guest, vcpu)
        case TDXExit.getQuoteNumber:
            guard guest.r12 & domain!.sharedBit != 0 else { return answer(vcpu, .invalidOperand) }
            return exitToUserspace(
                vcpu, .getQuote(buffer: GuestPhysicalAddress(guest.r12 & ~domain!.sharedBit), size: guest.r13))
        case 0x10003:
            // Nothing completes this exit: a guest that is entered again finds what it passed.
            let data = [
                vcpu.guestMode.exitRegisters.rax, guest.rcx, guest.rdx, guest.rbx, 0, 0, guest.rsi, guest.rdi, guest.r8,
                guest.r9, guest.r10, guest.r11, guest.r12, guest.r13, guest.r14, guest.r15,
            ]
            return .systemEvent(type: 7, data: data)
        case TDXExit.setupEventNotifyNumber:
            guard (32...255).contains(guest.r12) else { return answer(vcpu, .invalidOperand) }
            return exitToUserspace(vcpu, .setupEventNotify(vector: guest.r12))
        case 0x10000...: return answer(vcpu, .subfunctionUnsupported)
        case 10: return emulateCPUID(guest, vcpu)
        case 12: return try waitForWake(vcpu)
        case 30: return portAccess(guest, vcpu)
        case 31:
            guard let value = vcpu.msrs.read(guest.r12, vcpuID: vcpu.id) else { return answer(vcpu, .invalidOperand) }
            vcpu.callRegisters.r11 = value
            return nil
        case 32: return vcpu.msrs.write(guest.r12, guest.r13) ? nil : answer(vcpu, .invalidOperand)
        case 48: return deviceAccess(guest, vcpu)
        default:
            // Not a call but, by its number, an exit that KVM does not know of a TD.
            return .internalError(
                subcode: 4, data: [vcpu.guestMode.exitRegisters.rax, UInt64(vcpu.processor.rawValue)])
        }
    }

    /// The first thing of the next KVM_RUN: what the last exit left to do. An exit when there is more of it.
    func completePending(_ vcpu: VCPUCore) throws(KVMError) -> VCPUExit? {
        guard let pending = vcpu.pending else { return nil }
        switch pending {
        case .tdx(let exit):
            let given = vcpu.takeTDXAnswer() ?? exit.preset
            _ = answer(vcpu, given.status)
            if case .getTDVMCallInfo = exit {
                vcpu.callRegisters.r11 = given.r11
                vcpu.callRegisters.r12 = given.r12
                vcpu.callRegisters.r13 = given.r13
                vcpu.callRegisters.r14 = given.r14
            }
        case .input(let size):
            let data = vcpu.takeInput().prefix(size)
            vcpu.callRegisters.r11 = data.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        case .mapGPA(var request):
            let result = vcpu.takeHypercallResult()
            switch result {
            case 0:
                request.next += MapGPARequest.largestChunk
                guard request.next < request.end else { break }
                // Only between two chunks does a waiting event cut the call short.
                if vcpu.hasPendingEvent.exchange(false, ordering: .acquiringAndReleasing) {
                    _ = answer(vcpu, .retry, r11: request.next)
                    break
                }
                return exitForChunk(request, vcpu)
            case UInt64(Errno.resourceTemporarilyUnavailable.rawValue):
                _ = answer(vcpu, .retry, r11: request.next)
            case UInt64(Errno.invalidArgument.rawValue):
                _ = answer(vcpu, .invalidOperand, r11: request.next)
            default:
                throw KVMError("KVM_RUN", .invalidArgument, detail: "hypercall result \(result)")
            }
        }
        vcpu.pending = nil
        return nil
    }

    // MARK: Calls

    private func getTDVMCallInfo(leaf: UInt64, _ vcpu: VCPUCore) -> VCPUExit? {
        switch leaf {
        case 0:
            vcpu.callRegisters.r12 = 0
            vcpu.callRegisters.r13 = 0
            vcpu.callRegisters.r14 = 0
            return answer(vcpu, .success, r11: 0)
        case 1: return exitToUserspace(vcpu, .getTDVMCallInfo(leaf: leaf))
        default: return answer(vcpu, .invalidOperand)
        }
    }

    private func beginMapGPA(_ guest: Registers, _ vcpu: VCPUCore) -> VCPUExit? {
        let bit = domain!.sharedBit
        let (start, size) = (guest.r12, guest.r13)
        func refuse(_ status: TDVMCallStatus) -> VCPUExit? { answer(vcpu, status, r11: start) }

        guard kvmLock.withLock({ hypercallExits }) & 1 << 12 != 0 else { return refuse(.subfunctionUnsupported) }
        let (end, wraps) = start.addingReportingOverflow(size)
        // Addresses are legal up to the width in the vCPU's own CPUID.
        let limit = UInt64(1) << min(63, UInt64(TrustDomainCPUID.physicalAddressBits(vcpu.cpuid)))
        guard size != 0, !wraps, start < limit, end <= limit, start & bit == (end - 1) & bit else {
            return refuse(.invalidOperand)
        }
        guard start % pageSize == 0, size % pageSize == 0 else { return refuse(.alignError) }
        return exitForChunk(MapGPARequest(next: start, end: end, sharedBit: bit), vcpu)
    }

    private func exitForChunk(_ request: MapGPARequest, _ vcpu: VCPUCore) -> VCPUExit {
        // The kernel zeroes `ret` before the exit.
        vcpu.setHypercallResult(0)
        vcpu.pending = .mapGPA(request)
        // KVM_MAP_GPA_RANGE_ENCRYPTED is bit 4; the page-size code is 4 KiB.
        let chunk = request.chunk
        return .hypercall(
            number: 12,
            arguments: [chunk.start.rawValue, chunk.size.pages.rawValue, request.isPrivate ? 1 << 4 : 0, 0, 0, 0])
    }

    /// CPUID by KVM's own list, as KVM_SET_CPUID2 set it.
    private func emulateCPUID(_ guest: Registers, _ vcpu: VCPUCore) -> VCPUExit? {
        let (function, index) = (UInt32(truncatingIfNeeded: guest.r12), UInt32(truncatingIfNeeded: guest.r13))
        let found = vcpu.cpuid.emulated(function, index)
        vcpu.callRegisters.r12 = UInt64(found.eax)
        vcpu.callRegisters.r13 = UInt64(found.ebx)
        vcpu.callRegisters.r14 = UInt64(found.ecx)
        vcpu.callRegisters.r15 = UInt64(found.edx)
        return nil
    }

    private func portAccess(_ guest: Registers, _ vcpu: VCPUCore) -> VCPUExit? {
        let size = Int(truncatingIfNeeded: guest.r12)
        guard [1, 2, 4].contains(guest.r12), guest.r13 <= 1 else { return answer(vcpu, .invalidOperand) }
        let port = UInt16(truncatingIfNeeded: guest.r14)
        guard guest.r13 == 1 else {
            vcpu.setInput([])
            vcpu.pending = .input(size: size)
            return .io(isWrite: false, size: size, port: port, data: [UInt8](repeating: 0, count: size))
        }
        return .io(isWrite: true, size: size, port: port, data: Self.bytes(of: guest.r15, size))
    }

    /// MMIO by TDVMCALL: shared addresses alone, whether or not memory is there.
    private func deviceAccess(_ guest: Registers, _ vcpu: VCPUCore) -> VCPUExit? {
        let bit = domain!.sharedBit
        let (address, size) = (guest.r14, Int(truncatingIfNeeded: guest.r12))
        guard [1, 2, 4, 8].contains(guest.r12), guest.r13 <= 1, address & bit != 0,
            (address &+ UInt64(size) &- 1) & bit != 0
        else { return answer(vcpu, .invalidOperand) }
        let place = GuestPhysicalAddress(address & ~bit)
        guard guest.r13 == 1 else {
            vcpu.setInput([])
            vcpu.pending = .input(size: size)
            return .mmio(isWrite: false, address: place, data: [UInt8](repeating: 0, count: size))
        }
        return .mmio(isWrite: true, address: place, data: Self.bytes(of: guest.r15, size))
    }

    private static func bytes(of value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }

    private func exitToUserspace(_ vcpu: VCPUCore, _ exit: TDXExit) -> VCPUExit {
        vcpu.setTDXAnswer(nil)
        vcpu.pending = .tdx(exit)
        return .tdx(exit)
    }

    /// Sets what the guest finds in R10, and in R11 where the call returns a value there.
    private func answer(_ vcpu: VCPUCore, _ status: TDVMCallStatus, r11: UInt64? = nil) -> VCPUExit? {
        vcpu.callRegisters.r10 = status.rawValue
        if let r11 { vcpu.callRegisters.r11 = r11 }
        return nil
    }
}
