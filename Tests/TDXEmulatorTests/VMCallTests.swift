import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import TDXModule
import Testing

@testable import TDXEmulator

/// TDG.VP.VMCALL by sub-function, register by register. Source: Linux 7.2, arch/x86/kvm/vmx/tdx.c.
@Suite struct VMCallTests {
    private static let invalid: UInt64 = 1 << 63
    private static let unsupported: UInt64 = 1 << 63 | 3
    private static let shared: UInt64 = 1 << 47

    private func launch(
        vcpus: UInt32 = 1, configure: (inout EmulatorConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (GuestProcessor) throws(GuestFault) -> Void
    ) throws -> TestTD {
        let td = try TestTD(.memfd, vcpus: vcpus) {
            $0.guest = GuestProgram(body)
            configure(&$0)
        }
        try td.vm.tdxFinalize()
        return td
    }

    /// R10 to R15 of each answer, in order.
    private func answers(
        _ calls: [(function: UInt64, r12: UInt64, r13: UInt64, r14: UInt64, r15: UInt64)],
        serve: (EmulatedVirtualCPU, VCPUExit) throws -> Void = { _, _ in }
    ) throws -> (answers: [[UInt64]], exits: [VCPUExit]) {
        let seen = MutexBox<[[UInt64]]>([])
        let td = try launch { processor throws(GuestFault) in
            for call in calls {
                let answer = try processor.vmcall(
                    call.function, r12: call.r12, r13: call.r13, r14: call.r14, r15: call.r15)
                seen.append([answer.r10, answer.r11, answer.r12, answer.r13, answer.r14, answer.r15])
            }
        }
        var exits: [VCPUExit] = []
        while true {
            let exit = try td.vcpus[0].run()
            if exit == .halt { break }
            exits.append(exit)
            try serve(td.vcpus[0], exit)
        }
        td.close()
        td.expectNothingLeft()
        return (seen.value, exits)
    }

    @Test func `GetTdVmCallInfo is the kernel's for leaf 0, user space's for leaf 1, and invalid beyond`() throws {
        let result = try answers(
            [(0x10000, 0, 7, 8, 9), (0x10000, 1, 7, 8, 9), (0x10000, 1, 7, 8, 9), (0x10000, 2, 7, 8, 9)]
        ) { vcpu, exit in
            #expect(exit == .tdx(.getTDVMCallInfo(leaf: 1)))
            // The second time nothing is said, and the kernel's preset stands.
            if vcpu.core.callRegisters.r15 == 9, answered.value.isEmpty {
                vcpu.completeTDX(TDXAnswer(.success, r11: 2, r12: 3, r13: 4, r14: 5))
                answered.append(1)
            }
        }
        #expect(
            result.answers == [
                [0, 0, 0, 0, 0, 9], [0, 2, 3, 4, 5, 9], [0, 0, 0, 0, 0, 9], [Self.invalid, 0x10000, 2, 7, 8, 9],
            ])
        #expect(result.exits.count == 2)
    }
    private let answered = MutexBox<[UInt64]>([])

    @Test func `GetQuote brings its buffer without the shared bit, and its answer reaches R10 alone`() throws {
        let result = try answers([
            (0x10002, Self.shared | 0x7000, 0x2000, 3, 4), (0x10002, Self.shared | 0x7000, 0x2000, 3, 4),
            (0x10002, 0x7000, 0x2000, 3, 4),
        ]) { vcpu, exit in
            #expect(exit == .tdx(.getQuote(buffer: GuestPhysicalAddress(0x7000), size: 0x2000)))
            if answered.value.isEmpty {
                vcpu.completeTDX(TDXAnswer(.success, r11: 99, r12: 99))
                answered.append(1)
            }
        }
        let rest: [UInt64] = [0x10002, Self.shared | 0x7000, 0x2000, 3, 4]
        #expect(
            result.answers == [
                [0] + rest, [Self.unsupported] + rest, [Self.invalid, 0x10002, 0x7000, 0x2000, 3, 4],
            ])
        #expect(result.exits.count == 2)
    }

    @Test func `SetupEventNotifyInterrupt takes the vectors 32 to 255`() throws {
        let result = try answers([
            (0x10004, 31, 0, 0, 0), (0x10004, 32, 0, 0, 0), (0x10004, 255, 0, 0, 0), (0x10004, 256, 0, 0, 0),
        ]) { vcpu, _ in vcpu.completeTDX(TDXAnswer(.success)) }
        #expect(result.answers.map { $0[0] } == [Self.invalid, 0, 0, Self.invalid])
        #expect(result.exits == [.tdx(.setupEventNotify(vector: 32)), .tdx(.setupEventNotify(vector: 255))])
    }

    @Test func `CPUID is answered from the list that KVM_SET_CPUID2 set`() throws {
        let result = try answers([
            (10, 1, 0, 0, 0), (10, 0x8000_0008, 0, 0, 0), (10, 0x4000_0000, 0, 5, 6), (10, 0x55, 0, 0, 0),
        ])
        #expect(result.exits.isEmpty)
        #expect(result.answers[0] == [0, 10, 0, 0, 1 << 21, 0])
        #expect(result.answers[1] == [0, 10, 0x30_0034, 0, 0, 0])
        #expect(result.answers[2] == [0, 10, 0, 0, 0, 0])
        #expect(result.answers[3] == [0, 10, 0, 0, 0, 0])
    }

    @Test func `a leaf beyond the last is answered by the last basic leaf, a missing sub-leaf by zeros`() {
        let list = [
            CPUIDEntry(function: 0, eax: 0xB, ebx: 1), CPUIDEntry(function: 4, index: 1, flags: 1, eax: 4),
            CPUIDEntry(function: 0xB, index: 1, flags: 1, eax: 7, edx: 42),
            CPUIDEntry(function: 0xB, index: 0, flags: 1, eax: 6, edx: 42),
        ]
        #expect(list.emulated(0x20, 1) == (7, 0, 0, 42))
        #expect(list.emulated(4, 1) == (4, 0, 0, 0))
        #expect(list.emulated(4, 2) == (0, 0, 0, 0))
        #expect(list.emulated(0xB, 9) == (0, 0, 9, 42))
        #expect([CPUIDEntry]().emulated(1, 0) == (0, 0, 0, 0))
    }

    @Test func `the MSRs that Linux keeps for a TD are read and written, others are invalid`() throws {
        let result = try answers([
            (31, 0x1B, 0, 0, 0), (31, 0x3A, 0, 0, 0), (32, 0x1B, 0, 0, 0), (32, 0x6E0, 0x1234, 0, 0),
            (31, 0x6E0, 0, 0, 0), (31, 0xDEAD, 0, 0, 0), (32, 0xDEAD, 1, 0, 0), (31, 0x808, 0, 0, 0),
        ])
        #expect(result.exits.isEmpty)
        #expect(result.answers[0] == [0, 0xFEE0_0D00, 0x1B, 0, 0, 0])
        #expect(result.answers[1] == [0, 1, 0x3A, 0, 0, 0])
        #expect(result.answers[2] == [Self.invalid, 32, 0x1B, 0, 0, 0])
        #expect(result.answers[3][0] == 0 && result.answers[4][1] == 0x1234)
        // TPR is the processor's own.
        #expect(result.answers[5...7].allSatisfy { $0[0] == Self.invalid })
    }

    @Test func `MMIO by TDVMCALL is an exit for shared addresses, and invalid for private ones and odd sizes`() throws {
        let device = Self.shared | 0xFEC0_0000
        let result = try answers([
            (48, 4, 1, device, 0x1122_3344_5566_7788), (48, 8, 0, device, 0), (48, 3, 0, device, 0),
            (48, 4, 2, device, 0), (48, 4, 0, 0xFEC0_0000, 0),
        ]) { vcpu, exit in if case .mmio(false, _, _) = exit { vcpu.completeInput([1, 2, 3, 4, 5, 6, 7, 8]) } }
        #expect(
            result.exits == [
                .mmio(isWrite: true, address: GuestPhysicalAddress(0xFEC0_0000), data: [0x88, 0x77, 0x66, 0x55]),
                .mmio(
                    isWrite: false, address: GuestPhysicalAddress(0xFEC0_0000), data: .init(repeating: 0, count: 8)),
            ])
        #expect(result.answers[0] == [0, 48, 4, 1, device, 0x1122_3344_5566_7788])
        #expect(result.answers[1] == [0, 0x0807_0605_0403_0201, 8, 0, device, 0])
        #expect(result.answers[2...4].allSatisfy { $0[0] == Self.invalid })
    }

    @Test func `a guest that reported a fatal error and is run on finds what it passed`() throws {
        let result = try answers([(0x10003, 1, 2, 3, 4)])
        guard case .systemEvent(7, let data)? = result.exits.first else {
            Issue.record("\(result.exits)")
            return
        }
        #expect(data.count == 16 && Array(data[10...15]) == [0, 0x10003, 1, 2, 3, 4])
        #expect(result.answers == [[0, 0x10003, 1, 2, 3, 4]])
    }

    @Test func `a number below the calls that is no known exit ends KVM_RUN with an internal error`() throws {
        let td = try launch { processor throws(GuestFault) in _ = try processor.vmcall(0x1234) }
        guard case .internalError(4, let data) = try td.vcpus[0].run() else {
            Issue.record("another exit")
            return
        }
        #expect(data.count == 2 && data[1] == 0)
        td.close()
    }

    // MARK: Waiting

    @Test func `a halted vCPU stays in KVM_RUN until an event, a signal or immediate_exit`() throws {
        try Signals.makeInterrupting(.kick)
        let td = try launch { processor throws(GuestFault) in
            _ = try processor.vmcall(12)
            _ = try processor.vmcall(30, r12: 1, r13: 1, r14: 0x80)
        }
        // A signal: the guest is still halted after it.
        #expect(try td.vcpus[0].run(within: 30) == .interrupted)
        td.vcpus[0].setImmediateExit(true)
        #expect(try td.vcpus[0].run() == .interrupted)
        td.vcpus[0].setImmediateExit(false)
        td.close()
        td.expectNothingLeft()
    }

    @Test func `an event lets a halted vCPU go on`() throws {
        let td = try launch { processor throws(GuestFault) in
            _ = try processor.vmcall(12)
            _ = try processor.vmcall(30, r12: 1, r13: 1, r14: 0x80)
        }
        td.vcpus[0].postEvent()
        #expect(try td.vcpus[0].run() == .io(isWrite: true, size: 1, port: 0x80, data: [0]))
        td.close()
        td.expectNothingLeft()
    }

    @Test func `a vCPU whose program returned idles where that is asked for`() throws {
        try Signals.makeInterrupting(.kick)
        let td = try launch(configure: { $0.idlesWhenFinished = true }) { _ in }
        #expect(try td.vcpus[0].run(within: 30) == .interrupted)
        td.close()
        td.expectNothingLeft()
    }

    @Test func `a VMM's own immediate_exit takes a running guest out`() throws {
        let td = try launch { processor throws(GuestFault) in while true { try processor.pause() } }
        let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { page.deallocate() }
        page.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
        td.vcpus[0].watchImmediateExit(at: UnsafeRawPointer(page) + 1)
        nonisolated(unsafe) let byte = page + 1
        let setter = try SystemThread(name: "vmm") {
            usleep(20_000)
            byte.storeBytes(of: 1, as: UInt8.self)
        }
        #expect(try td.vcpus[0].run() == .interrupted)
        setter.join()
        td.vcpus[0].watchImmediateExit(at: nil)
        td.close()
        td.expectNothingLeft()
    }

    @Test func `an application processor that was not started waits, the boot processor is refused`() throws {
        try Signals.makeInterrupting(.kick)
        let system = try EmulatedKVMSystem(host: .memfd)
        let vm = try system.createTrustDomainVM()
        try vm.enable(.splitIRQChip, [24])
        try vm.tdxInitialize(TestTD.parameters())
        let boot = try vm.createVCPU(id: 0)
        let other = try vm.createVCPU(id: 1) as! EmulatedVirtualCPU
        expectErrno(.invalidArgument) { _ = try boot.run() }
        #expect(try other.run(within: 30) == .interrupted)
        other.postEvent()
        expectErrno(.resourceTemporarilyUnavailable) { _ = try other.run() }
        [boot, other].forEach { $0.close() }
        vm.close()
    }

    @Test func `a guest's program takes no signal of the process`() throws {
        let blocked = MutexBox<[UInt64]>([])
        let td = try launch { processor throws(GuestFault) in
            var mask = sigset_t()
            pthread_sigmask(SIG_SETMASK, nil, &mask)
            for signal in [SIGUSR1, SIGTERM, SIGINT, SIGCHLD] { blocked.append(UInt64(sigismember(&mask, signal))) }
            try processor.pause()
        }
        #expect(try td.vcpus[0].run() == .halt)
        #expect(blocked.value == [1, 1, 1, 1])
        td.close()
    }

    @Test func `a second key id lets a VM be rebuilt while the old one still lives`() throws {
        for (keys, errno) in [([KeyID(40)], Errno.noSpace), ([KeyID(40), KeyID(41)], nil)] as [([KeyID], Errno?)] {
            let system = try EmulatedKVMSystem(EmulatorConfiguration(host: .memfd, keyIDs: keys))
            let old = try system.createTrustDomainVM()
            try old.enable(.splitIRQChip, [24])
            try old.tdxInitialize(TestTD.parameters())
            let vcpu = try old.createVCPU(id: 0)
            old.close()
            // The vCPU still keeps the old VM, as a VMM's statistics and other vCPUs do at a reset.
            let new = try system.createTrustDomainVM()
            if let errno {
                expectErrno(errno) { try new.tdxInitialize(TestTD.parameters()) }
            } else {
                try new.tdxInitialize(TestTD.parameters())
            }
            vcpu.close()
            new.close()
            #expect(system.freeKeyIDs == keys.count)
        }
    }

    // MARK: Slots

    @Test func `slot flags are checked as the kernel checks them, and a change of flags is a change`() throws {
        let td = try TestTD(.memfd)
        var slot = td.slot(id: 1)
        slot.range = td.range(8 << 20, 1 << 20)
        slot.guestMemory = nil
        slot.flags = .readOnly
        expectErrno(.invalidArgument) { try td.vm.setMemorySlot(slot) }
        slot.flags = MemorySlot.Flags(rawValue: 16)
        expectErrno(.invalidArgument) { try td.vm.setMemorySlot(slot) }
        slot.flags = .logDirtyPages
        try td.vm.setMemorySlot(slot)
        #expect(td.vm.machine.slots[1]?.flags == .logDirtyPages)
        slot.flags = []
        try td.vm.setMemorySlot(slot)
        #expect(td.vm.machine.slots[1]?.flags == [])
        slot.id = 2
        slot.range = td.range(16 << 20, 1 << 20)
        slot.guestMemory = td.memory
        slot.flags = .logDirtyPages
        expectErrno(.invalidArgument) { try td.vm.setMemorySlot(slot) }
        td.close()
    }

    @Test func `a closed descriptor is the last thing that a slot is refused for, and size 0 deletes after the checks`()
        throws
    {
        let td = try TestTD(.memfd)
        let other = try td.vm.createGuestMemory(size: .mebibytes(1), flags: [])
        other.close()
        var slot = td.slot(id: 1)
        slot.guestMemory = other
        expectErrno(.fileExists) { try td.vm.setMemorySlot(slot) }
        slot.range = td.range(8 << 20, 0x800)
        expectErrno(.invalidArgument) { try td.vm.setMemorySlot(slot) }
        slot.range = td.range(8 << 20, 1 << 20)
        expectErrno(.badFileDescriptor) { try td.vm.setMemorySlot(slot) }
        var deletion = td.slot(id: 0)
        deletion.range = td.range(0, 0)
        deletion.userspaceAddress = 1
        expectErrno(.invalidArgument) { try td.vm.setMemorySlot(deletion) }
        deletion.userspaceAddress = 0
        try td.vm.setMemorySlot(deletion)
        #expect(td.vm.machine.slots[0] == nil)
        td.close()
    }
}
