import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

/// The kernel's private_mem_conversions_test and private_mem_kvm_exits_test, row by row: real vCPUs in a VM with private
/// memory, which the guest asks to convert by KVM_HC_MAP_GPA_RANGE.
@Suite(.enabled(if: Machine.hasAttributes, "KVM offers no software-protected VM (type 1)"))
struct PrivateMemoryTests {
    static let page: UInt64 = 4096
    private let page: UInt64 = 4096
    /// 2 MiB and one page, so that ranges cross the border of a large page.
    static let size: UInt64 = 2 << 20 + 4096
    private let size = Self.size
    private let base: UInt64 = 0x1000_0000

    /// The parts of the data that are converted, as the kernel's test has them.
    static let parts: [(offset: UInt64, length: UInt64)] = [
        (0, 4096), (0, 2 << 20), (4096, 4096), (4096, 2 << 20), (2 << 20, 4096),
    ]

    /// A VM with both sides of its memory, and a guest in it.
    private struct Setup {
        var vm: KernelVirtualMachine
        var memory: KernelGuestMemory
        var shared: FileMapping
        var guest: Guest
        /// Chosen by the test to see that KVM passes them on.
        let attributeBits: UInt64 = 0xABC0_0013
    }

    private func setUp(vcpus: UInt64 = 1, slots: UInt64 = 1) throws -> Setup {
        let vm = try Machine.createVM(.softwareProtected)
        try vm.enable(.exitHypercall, [1 << 12])
        let total = alignedUp(size) * vcpus
        let memory = try vm.createKernelGuestMemory(size: ByteCount(total), flags: [])
        let shared = try MemoryFile(name: "shared", size: ByteCount(total)).map(length: ByteCount(total))
        let guest = try Guest(vm)
        guest.keep(shared)
        guest.keep(memory)
        // The slots cut one file; their borders need not be those of the vCPUs' parts.
        let length = total / slots / (2 << 20) * (2 << 20)
        for slot in 0..<slots {
            let start = slot * length
            let end = slot == slots - 1 ? total : start + length
            try vm.setMemorySlot(
                MemorySlot(
                    id: UInt32(slot), range: GuestPhysicalRange(base + start, end - start),
                    userspaceAddress: UInt(bitPattern: shared.baseAddress) + UInt(start), guestMemory: memory,
                    guestMemoryOffset: ByteCount(start)))
        }
        return Setup(vm: vm, memory: memory, shared: shared, guest: guest)
    }

    private func alignedUp(_ bytes: UInt64) -> UInt64 { (bytes + (2 << 20) - 1) / (2 << 20) * (2 << 20) }

    /// The guest asks, the host sees what it asked for and does it; the guest sees success.
    private func convert(
        _ setup: Setup, _ guest: Guest, _ offset: UInt64, _ length: UInt64, toPrivate: Bool, discard: Bool = false
    ) throws {
        var exits = 0
        let answer = try guest.ask(
            .hypercall, 12, UInt32(base + offset), UInt32(length / page), UInt32(setup.attributeBits)
        ) { exit in
            #expect(
                exit
                    == .hypercall(
                        number: 12, arguments: [base + offset, length / page, setup.attributeBits, 0, 0, 0]))
            exits += 1
            if discard {
                if toPrivate {
                    try setup.memory.allocate(FileRange(offset, length))
                } else {
                    try setup.memory.punchHole(FileRange(offset, length))
                }
            }
            try setup.vm.setMemoryAttributes(GuestPhysicalRange(base + offset, length), isPrivate: toPrivate)
            guest.vcpu.completeHypercall(0)
        }
        #expect(exits == 1)
        #expect(answer == 0)
    }

    @Test(arguments: parts, [false, true])
    func `C1 to C9 a guest converts a part to private and back, and neither side sees the other's data`(
        part: (offset: UInt64, length: UInt64), discard: Bool
    ) throws {
        let setup = try setUp()
        try converts(setup, setup.guest, start: 0, part, discard: discard)
    }

    /// The rows for one vCPU whose data begin at `start`.
    private func converts(
        _ setup: Setup, _ guest: Guest, start: UInt64, _ part: (offset: UInt64, length: UInt64), discard: Bool
    ) throws {
        let (shared, offset, length) = (setup.shared, start + part.offset, part.length)
        let (p1, p2, p3, p4): (UInt8, UInt8, UInt8, UInt8) = (0x11, 0x22, 0x33, 0x44)
        // C1: memory starts shared.
        try guest.fill(base + start, size, p1)
        #expect(shared.holds(p1, start, size))
        // C2
        shared.fill(p2, start, size)
        #expect(try guest.holds(p2, base + start, size))
        // C3, C4: the call arrives unchanged, and after it private writes cause no exits.
        try convert(setup, guest, offset, length, toPrivate: true, discard: discard)
        try guest.fill(base + offset, length, p3)
        #expect(try guest.holds(p3, base + offset, length))
        // C5: they are invisible in the shared side.
        #expect(shared.holds(p2, offset, length))
        // C6: what lies around stays as it was.
        if part.offset > 0 { #expect(try guest.holds(p2, base + start, part.offset)) }
        if part.offset + length < size {
            #expect(try guest.holds(p2, base + offset + length, size - part.offset - length))
        }
        // C7: every odd page goes back.
        for index in stride(from: 1, to: Int(length / page), by: max(2, Int(length / page) / 8 * 2)) {
            let place = offset + UInt64(index) * page
            try convert(setup, guest, place, page, toPrivate: false, discard: discard)
            shared.fill(p4, place, page)
            #expect(try guest.holds(p4, base + place, page))
            #expect(try guest.holds(p3, base + place - page, page))
            #expect(shared.holds(p2, place - page, page))
        }
        // C8
        try convert(setup, guest, offset, length, toPrivate: false, discard: discard)
        try guest.fill(base + offset, length, p1)
        #expect(shared.holds(p1, offset, length))
        shared.fill(p4, offset, length)
        #expect(try guest.holds(p4, base + offset, length))
        // C9: without a punch the private data are still there when the range is private again, with one they are not.
        try convert(setup, guest, offset, page, toPrivate: true)
        #expect(try guest.holds(discard ? 0 : p3, base + offset, page))
        try convert(setup, guest, offset, page, toPrivate: false)
    }

    @Test(arguments: [false, true])
    func `C10 a punched part of private memory reads zero, without an exit`(everythingPresent: Bool) throws {
        let setup = try setUp()
        let guest = setup.guest
        try convert(setup, guest, 0, size, toPrivate: true)
        for (offset, length) in Self.parts {
            try setup.memory.punchHole(FileRange(0, size))
            let filled = everythingPresent ? (offset: 0, length: size) : (offset: offset, length: length)
            try guest.fill(base + filled.offset, filled.length, 0x5A)
            try setup.memory.punchHole(FileRange(offset, length))
            try expectResident(setup.memory, FileRange(offset, length), 0)
            #expect(try guest.holds(0, base + offset, length))
            if everythingPresent, offset > 0 { #expect(try guest.holds(0x5A, base, offset)) }
        }
    }

    @Test(arguments: [UInt64(1), 3])
    func `C11 vCPUs convert their own parts at the same time, whatever the slots`(slots: UInt64) throws {
        let vcpus: UInt64 = 2
        let setup = try setUp(vcpus: vcpus, slots: slots)
        let second = try Guest(setup.vm, vcpu: 1, sharing: setup.guest)
        let failures = Mutex<[String]>([])
        nonisolated(unsafe) let guests = [setup.guest, second]
        nonisolated(unsafe) let shared = setup
        let stride = alignedUp(size)
        let threads = try (0..<Int(vcpus)).map { index in
            try SystemThread(name: "vcpu-\(index)") {
                do {
                    // Each guest is used by its own thread alone.
                    for part in Self.parts {
                        try converts(shared, guests[index], start: UInt64(index) * stride, part, discard: index == 1)
                    }
                } catch {
                    failures.withLock { $0.append("\(error)") }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.withLock { $0 } == [])
    }

    @Test func `X6 and X7 an equal attribute changes nothing, and pages go at the punch, not at the conversion`() throws
    {
        let setup = try setUp()
        let range = GuestPhysicalRange(base, size)
        try setup.vm.setMemoryAttributes(range, isPrivate: true)
        try setup.vm.setMemoryAttributes(range, isPrivate: true)
        try setup.guest.fill(base, size, 0x77)
        try expectResident(setup.memory, FileRange(0, size), size)
        try setup.vm.setMemoryAttributes(range, isPrivate: true)
        #expect(try setup.guest.holds(0x77, base, size))
        try setup.vm.setMemoryAttributes(range, isPrivate: false)
        try expectResident(setup.memory, FileRange(0, size), size)
        try setup.memory.punchHole(FileRange(0, size))
        try expectResident(setup.memory, FileRange(0, size), 0)
    }

    @Test func `attributes are refused for ranges that are empty, unaligned or wrap`() throws {
        let vm = try Machine.createVM(.softwareProtected)
        for range in [
            GuestPhysicalRange(base, 0), GuestPhysicalRange(base + 1, page), GuestPhysicalRange(base, page - 1),
        ] {
            expectRefusal(.invalidArgument) { try vm.setMemoryAttributes(range, isPrivate: true) }
        }
        // No slot is needed.
        try vm.setMemoryAttributes(GuestPhysicalRange(base, 1 << 30), isPrivate: true)
    }

    @Test func `C12 a file outlives its VM: it can be punched and filled after the VM's descriptors are closed`() throws
    {
        let setup = try setUp()
        setup.guest.vcpu.close()
        setup.vm.close()
        let total = setup.memory.size.rawValue
        try setup.memory.punchHole(FileRange(0, total))
        try setup.memory.allocate(FileRange(0, total))
        try expectResident(setup.memory, FileRange(0, total), total)
        setup.memory.close()
    }

    @Test func `E1 a private page whose slot goes under a reading guest ends in a memory fault that names it`() throws {
        let setup = try setUp()
        try setup.vm.setMemoryAttributes(GuestPhysicalRange(base, page), isPrivate: true)
        try setup.guest.ask(.write, UInt32(base), 7)
        let failure = Mutex<(any Error)?>(nil)
        let remover = try SystemThread(name: "remover") { [vm = setup.vm] in
            do { try vm.deleteMemorySlot(0) } catch { failure.withLock { $0 = error } }
        }
        var fault: VCPUExit?
        _ = try? setup.guest.ask(.spin, UInt32(base), 7) { exit in
            fault = exit
            throw Guest.Failure.unexpected(exit)
        }
        remover.join()
        #expect(failure.withLock { $0 } == nil)
        #expect(fault == .memoryFault(isPrivate: true, address: .init(base), size: ByteCount(page)))
    }

    @Test func `E2 a private page in a slot without guest memory ends in the same fault`() throws {
        let vm = try Machine.createVM(.softwareProtected)
        let plain = try MemoryFile(name: "plain", size: ByteCount(page)).map(length: ByteCount(page))
        try vm.setMemorySlot(
            MemorySlot(
                id: 0, range: GuestPhysicalRange(base, page), userspaceAddress: UInt(bitPattern: plain.baseAddress)))
        try vm.setMemoryAttributes(GuestPhysicalRange(base, page), isPrivate: true)
        let guest = try Guest(vm)
        guest.keep(plain)
        var fault: VCPUExit?
        _ = try? guest.ask(.read, UInt32(base)) { exit in
            fault = exit
            throw Guest.Failure.unexpected(exit)
        }
        #expect(fault == .memoryFault(isPrivate: true, address: .init(base), size: ByteCount(page)))
    }

    @Test func `X5 access to memory whose file was closed is a memory fault, and the slot can still go`() throws {
        let setup = try setUp()
        try setup.vm.setMemoryAttributes(GuestPhysicalRange(base, page), isPrivate: true)
        setup.memory.close()
        var fault: VCPUExit?
        _ = try? setup.guest.ask(.read, UInt32(base)) { exit in
            fault = exit
            throw Guest.Failure.unexpected(exit)
        }
        #expect(fault == .memoryFault(isPrivate: true, address: .init(base), size: ByteCount(page)))
        try setup.vm.deleteMemorySlot(0)
    }
}
