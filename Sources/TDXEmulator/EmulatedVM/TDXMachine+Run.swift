internal import Glibc
internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXModule
internal import TDXStatusCodes

extension TDXMachine {
    private static let runName = "KVM_RUN"

    /// What KVM_RUN answers where nothing can execute: KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON with the status that
    /// Linux uses when a SEAMCALL did not happen at all.
    static let noGuest = VCPUExit.internalError(subcode: 4, data: [0x8000_FF00_FFFF_0000])

    /// KVM_RUN. Source of the order: reference/kvm.md §1.4.
    func run(_ vcpu: VCPUCore) throws(KVMError) -> VCPUExit {
        let name = Self.runName
        try enter(name)
        vcpu.mutex.lock()
        defer { vcpu.mutex.unlock() }
        try enter(name)
        if vcpu.id != 0, vcpu.state == .uninitialized {
            // An application processor that was not started: the vCPU blocks until something wakes it.
            if vcpu.guestMode.isExitRequested { return .interrupted }
            if let exit = try waitForWake(vcpu) { return exit }
            throw KVMError(name, .resourceTemporarilyUnavailable, detail: "vCPU \(vcpu.id) was not started")
        }
        if let exit = try completePending(vcpu) { return exit }
        if vcpu.guestMode.isExitRequested { return .interrupted }
        guard vcpu.state == .initialized, state == .runnable else {
            throw KVMError(name, .invalidArgument, detail: "vCPU \(vcpu.state), TD \(state)")
        }
        while host.configuration.keepsVCPUs { sleep(60) }
        guard let agent = host.configuration.guest else { return Self.noGuest }
        let guest = guestThread(of: vcpu, agent)
        while true {
            guard !dead else { throw KVMError(name, .ioError, detail: "the VM is dead") }
            if vcpu.guestMode.isExitRequested { return .interrupted }
            if zapsWaiting.load(ordering: .acquiring) > 0 {
                sched_yield()
                continue
            }
            let (status, refusal) = enterGuest(vcpu)
            if status.isBusy { continue }
            guard status.isSuccess else { return unhandledExit(status.rawValue, vcpu) }
            if let refusal {
                if let exit = try handle(refusal, vcpu) { return exit }
                continue
            }
            switch guest.resume() {
            case .interrupted: continue
            case .finished:
                guard host.configuration.idlesWhenFinished else { return .halt }
                if let exit = try waitForWake(vcpu) { return exit }
            case .sharedAccess(let access):
                if let exit = try accessShared(access, vcpu) { return exit }
            case .exit(let exit):
                if let exit = try handle(exit, vcpu) { return exit }
            }
        }
    }

    private func guestThread(of vcpu: VCPUCore, _ agent: any GuestAgent) -> GuestThread {
        if let guest = vcpu.guest { return guest }
        let guest = GuestThread()
        let processor = GuestProcessor(
            id: vcpu.id, initialRCX: vcpu.initialRCX, sharedBit: domain!.sharedBit, mode: vcpu.guestMode, thread: guest)
        guest.start {
            // However the program ends, the vCPU has nothing more to do.
            try? agent.run(on: processor)
            vcpu.guestMode.leaveIfInside(.halt)
        }
        vcpu.guest = guest
        return guest
    }

    /// VP.ENTER, with the answers to the guest's last VMCALL. The exit is one that the module makes in the guest's place.
    private func enterGuest(_ vcpu: VCPUCore) -> (status: TDXStatus, exit: TDExit?) {
        vcpu.guestMode.lock.withLock {
            var registers = Registers(.vpEnter, rcx: vcpu.guestMode.tdvpr!.rawValue)
            let (leaf, operand) = (registers.rax, registers.rcx)
            registers = vcpu.callRegisters
            registers.rax = leaf
            registers.rcx = operand
            counts.add(.vpEnter)
            vcpu.mayBeAssociated = true
            let status = host.module.enter(&registers, on: vcpu.processor)
            vcpu.guestMode.isInside = status == .success
            guard status.isSuccess, status != .success else { return (status, nil) }
            let address = GuestPhysicalAddress(registers.r8)
            return (status, .eptViolation(gpa: address, qualification: registers.rcx, extended: .none))
        }
    }

    // MARK: Exits of the guest

    /// What the kernel makes of an exit; nil to enter again.
    private func handle(_ exit: TDExit, _ vcpu: VCPUCore) throws(KVMError) -> VCPUExit? {
        switch exit {
        case .externalInterrupt, .hostPriorityTimeout: return nil
        case .halt: return try waitForWake(vcpu)
        case .eptViolation(let address, _, let extended):
            return try handlePrivateFault(GuestPhysicalAddress(address.rawValue / pageSize * pageSize), extended)
        case .vmcall(let registers): return try handleVMCall(registers, vcpu)
        case .nonRecoverableVCPU(let reason), .nonRecoverableTD(let reason):
            // Triple fault is VMX exit reason 2.
            return reason == 2 ? .shutdown : unhandledExit(vcpu.guestMode.exitRegisters.rax, vcpu)
        case .machineCheck: return unhandledExit(vcpu.guestMode.exitRegisters.rax, vcpu)
        }
    }

    /// What VP.ENTER answered and on which processor.
    private func unhandledExit(_ status: UInt64, _ vcpu: VCPUCore) -> VCPUExit {
        .internalError(subcode: 4, data: [status, UInt64(vcpu.processor.rawValue)])
    }

    /// A halted vCPU: with its APIC in the kernel KVM_RUN does not return, it waits for an event (nil), for a signal or for the
    /// VM's end. `immediate_exit` alone is noticed within 50 ms: a signal that came right before the wait has left nothing else.
    func waitForWake(_ vcpu: VCPUCore) throws(KVMError) -> VCPUExit? {
        while true {
            guard !dead else { throw KVMError(Self.runName, .ioError, detail: "the VM is dead") }
            if vcpu.hasPendingEvent.exchange(false, ordering: .acquiringAndReleasing) { return nil }
            if vcpu.guestMode.isExitRequested || vcpu.haltWake.wait(milliseconds: 50) == .interrupted {
                return .interrupted
            }
        }
    }

    private func handlePrivateFault(
        _ address: GuestPhysicalAddress, _ extended: ExtendedQualification
    ) throws(KVMError) -> VCPUExit? {
        if extended.kind == .pendingViolation {
            // The guest touched a page that it did not accept and asked for no #VE: the kernel gives the VM up.
            markDead()
            throw KVMError(Self.runName, .ioError, detail: "the guest touched the pending page \(address)")
        }
        switch faultPrivate(address, name: Self.runName) {
        case .mapped, .alreadyMapped: return nil
        case .retry:
            sched_yield()
            return nil
        case .noSlot, .shared, .noGuestMemory:
            return .memoryFault(isPrivate: true, address: address, size: ByteCount(pageSize))
        case .failed(let error): throw KVMError(Self.runName, error.errno, status: error.status, detail: error.detail)
        }
    }

    /// The guest's access to a shared page: the slot's userspace memory, or an exit.
    private func accessShared(_ access: SharedAccess, _ vcpu: VCPUCore) throws(KVMError) -> VCPUExit? {
        let page = GuestPhysicalAddress(access.address.rawValue / pageSize * pageSize)
        vcpu.guestMode.sharedResult = nil
        return mmuLock.withReadLock {
            guard vcpu.guestMode.lock.withLock(access.isCurrent) else { return nil }
            guard !attributes.isPrivate(access.address) else {
                return .memoryFault(isPrivate: false, address: page, size: ByteCount(pageSize))
            }
            guard let slot = slots.slot(containing: access.address) else {
                vcpu.guestMode.sharedResult = [UInt8](repeating: 0xFF, count: access.count)
                let data = access.writing ?? [UInt8](repeating: 0, count: access.count)
                return .mmio(isWrite: access.writing != nil, address: access.address, data: data)
            }
            let offset = UInt((access.address - slot.range.start).rawValue)
            guard let memory = UnsafeMutableRawPointer(bitPattern: slot.userspaceAddress + offset),
                slot.userspaceAddress != 0
            else { return .memoryFault(isPrivate: false, address: page, size: ByteCount(pageSize)) }
            if let bytes = access.writing {
                memory.copyMemory(from: bytes, byteCount: bytes.count)
                vcpu.guestMode.sharedResult = []
            } else {
                vcpu.guestMode.sharedResult = Array(UnsafeRawBufferPointer(start: memory, count: access.count))
            }
            return nil
        }
    }
}
