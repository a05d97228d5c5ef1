import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

/// The kernel's private_mem_conversions_test, row by row: real vCPUs in a VM with private memory, which the guest asks
/// to convert by KVM_HC_MAP_GPA_RANGE.
@Suite(.enabled(if: Machine.hasAttributes, "KVM offers no software-protected VM (type 1)"))
struct PrivateMemoryTests {
    typealias Part = (offset: UInt64, length: UInt64)

    private let page = PrivateGuest.page
    private let size = PrivateGuest.size
    private let base = PrivateGuest.base

    /// The parts of the data that are converted, as the kernel's test has them.
    static let parts: [Part] = [(0, 4096), (0, 2 << 20), (4096, 4096), (4096, 2 << 20), (2 << 20, 4096)]

    @Test func `C1 memory starts shared: the host sees what the guest writes`() throws {
        let setup = try PrivateGuest()
        try setup.guest.fill(base, size, 0x11)
        #expect(setup.shared.holds(0x11, 0, size))
    }

    @Test func `C2 the guest sees what the host writes to shared memory`() throws {
        let setup = try PrivateGuest()
        try setup.guest.fill(base, size, 0x11)
        setup.shared.fill(0x22, 0, size)
        #expect(try setup.guest.holds(0x22, base, size))
    }

    @Test(arguments: parts)
    func `C3 the guest's request arrives as it was made, whatever its attribute bits`(part: Part) throws {
        let setup = try PrivateGuest()
        for attributes: UInt32 in [0, 1, 1 << 4, 0xABC0_0013, .max] {
            // `convert` compares the exit with what was asked.
            try setup.convert(part.offset, part.length, toPrivate: true, attributes: attributes)
        }
    }

    /// Shared memory that the host filled with 0x22, whose part the guest then converted and filled with 0x33.
    private func withPrivate(_ part: Part) throws -> PrivateGuest {
        let setup = try PrivateGuest()
        setup.shared.fill(0x22, 0, size)
        try setup.convert(part.offset, part.length, toPrivate: true)
        // Any exit on the way would be an unexpected answer and thrown.
        try setup.guest.fill(base + part.offset, part.length, 0x33)
        return setup
    }

    @Test(arguments: parts)
    func `C4 after the conversion the guest writes and reads without another exit`(part: Part) throws {
        let setup = try withPrivate(part)
        #expect(try setup.guest.holds(0x33, base + part.offset, part.length))
    }

    @Test(arguments: parts)
    func `C5 private writes do not show in the shared side, which keeps what it had`(part: Part) throws {
        let setup = try withPrivate(part)
        #expect(setup.shared.holds(0x22, 0, size))
    }

    @Test(arguments: parts)
    func `C6 what lies before and behind a private part stays shared and as it was`(part: Part) throws {
        let setup = try withPrivate(part)
        let end = part.offset + part.length
        #expect(try part.offset == 0 || setup.guest.holds(0x22, base, part.offset))
        #expect(try end == size || setup.guest.holds(0x22, base + end, size - end))
        setup.shared.fill(0x55, 0, part.offset)
        setup.shared.fill(0x55, end, size - end)
        #expect(try part.offset == 0 || setup.guest.holds(0x55, base, part.offset))
        #expect(try end == size || setup.guest.holds(0x55, base + end, size - end))
    }

    @Test(arguments: parts.filter { $0.length > 4096 })
    func `C7 every odd page goes back to shared, and the even ones stay private`(part: Part) throws {
        let setup = try withPrivate(part)
        let odd = Swift.stride(from: part.offset + page, to: part.offset + part.length, by: 2 * Int(page))
        for place in odd { try setup.convert(place, page, toPrivate: false) }
        for place in odd { setup.shared.fill(0x44, place, page) }
        for place in odd {
            #expect(try setup.guest.holds(0x44, base + place, page))
            #expect(try setup.guest.holds(0x33, base + place - page, page))
            #expect(setup.shared.holds(0x22, place - page, page))
        }
    }

    @Test(arguments: parts)
    func `C8 converted back as a whole, guest and host see each other's writes again`(part: Part) throws {
        let setup = try withPrivate(part)
        try setup.convert(part.offset, part.length, toPrivate: false)
        #expect(try setup.guest.holds(0x22, base + part.offset, part.length))
        try setup.guest.fill(base + part.offset, part.length, 0x66)
        #expect(setup.shared.holds(0x66, part.offset, part.length))
        setup.shared.fill(0x77, part.offset, part.length)
        #expect(try setup.guest.holds(0x77, base + part.offset, part.length))
    }

    @Test(arguments: parts, [false, true])
    func `C9 allocating and punching alongside changes nothing but that private data do not outlive a punch`(
        part: Part, discard: Bool
    ) throws {
        let setup = try PrivateGuest()
        try convertsThereAndBack(setup, setup.guest, start: 0, part, discard: discard)
    }

    /// The rows' steps one after the other, for one vCPU whose data begin at `start`.
    private func convertsThereAndBack(
        _ setup: PrivateGuest, _ guest: Guest, start: UInt64, _ part: (offset: UInt64, length: UInt64), discard: Bool
    ) throws {
        let (shared, offset, length) = (setup.shared, start + part.offset, part.length)
        let (p1, p2, p3, p4): (UInt8, UInt8, UInt8, UInt8) = (0x11, 0x22, 0x33, 0x44)
        try guest.fill(base + start, size, p1)
        #expect(shared.holds(p1, start, size))
        shared.fill(p2, start, size)
        #expect(try guest.holds(p2, base + start, size))
        // Private writes cause no exits, and are invisible in the shared side.
        try setup.convert(offset, length, by: guest, toPrivate: true, discard: discard)
        try guest.fill(base + offset, length, p3)
        #expect(try guest.holds(p3, base + offset, length))
        #expect(shared.holds(p2, offset, length))
        // What lies around stays as it was.
        if part.offset > 0 { #expect(try guest.holds(p2, base + start, part.offset)) }
        if part.offset + length < size {
            #expect(try guest.holds(p2, base + offset + length, size - part.offset - length))
        }
        // Some odd pages go back before the rest.
        for index in Swift.stride(from: 1, to: Int(length / page), by: max(2, Int(length / page) / 8 * 2)) {
            let place = offset + UInt64(index) * page
            try setup.convert(place, page, by: guest, toPrivate: false, discard: discard)
            shared.fill(p4, place, page)
            #expect(try guest.holds(p4, base + place, page))
            #expect(try guest.holds(p3, base + place - page, page))
            #expect(shared.holds(p2, place - page, page))
        }
        try setup.convert(offset, length, by: guest, toPrivate: false, discard: discard)
        try guest.fill(base + offset, length, p1)
        #expect(shared.holds(p1, offset, length))
        shared.fill(p4, offset, length)
        #expect(try guest.holds(p4, base + offset, length))
        // Without a punch the private data are still there when the range is private again, with one they are not.
        try setup.convert(offset, page, by: guest, toPrivate: true)
        #expect(try guest.holds(discard ? 0 : p3, base + offset, page))
        try setup.convert(offset, page, by: guest, toPrivate: false)
    }

    @Test(arguments: [false, true])
    func `C10 a punched part of private memory reads zero, without an exit`(everythingPresent: Bool) throws {
        let setup = try PrivateGuest()
        let guest = setup.guest
        try setup.convert(0, size, toPrivate: true)
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
        let setup = try PrivateGuest(vcpus: vcpus, slots: slots)
        let second = try Guest(setup.vm, vcpu: 1, sharing: setup.guest)
        let failures = Mutex<[String]>([])
        nonisolated(unsafe) let guests = [setup.guest, second]
        nonisolated(unsafe) let shared = setup
        let threads = try (0..<Int(vcpus)).map { index in
            try SystemThread(name: "vcpu-\(index)") {
                do {
                    // Each guest is used by its own thread alone.
                    for part in Self.parts {
                        try convertsThereAndBack(
                            shared, guests[index], start: UInt64(index) * PrivateGuest.stride, part, discard: index == 1
                        )
                    }
                } catch {
                    failures.withLock { $0.append("\(error)") }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.withLock { $0 } == [])
    }

    @Test func `C12 a file outlives its VM: it can be punched and filled after the VM's descriptors are closed`() throws
    {
        let setup = try PrivateGuest()
        setup.guest.vcpu.close()
        setup.vm.close()
        let total = setup.memory.size.rawValue
        try setup.memory.punchHole(FileRange(0, total))
        try setup.memory.allocate(FileRange(0, total))
        try expectResident(setup.memory, FileRange(0, total), total)
        setup.memory.close()
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
}
