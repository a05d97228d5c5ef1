import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import Testing

/// The kernel's private_mem_kvm_exits_test, row by row, and what of §7.6 of the reference needs private memory under a
/// running guest.
@Suite(.enabled(if: Machine.hasAttributes, "KVM offers no software-protected VM (type 1)"))
struct MemoryFaultTests {
    private let page = PrivateGuest.page
    private let size = PrivateGuest.size
    private let base = PrivateGuest.base
    private let fault = VCPUExit.memoryFault(
        isPrivate: true, address: .init(PrivateGuest.base), size: ByteCount(PrivateGuest.page))

    @Test func `E1 a private page whose slot goes under a reading guest ends in a memory fault that names it`() throws {
        let setup = try PrivateGuest()
        try setup.vm.setMemoryAttributes(GuestPhysicalRange(base, page), isPrivate: true)
        try setup.guest.ask(.write, UInt32(base), 7)
        let failure = Mutex<(any Error)?>(nil)
        let remover = try SystemThread(name: "remover") { [vm = setup.vm] in
            do { try vm.deleteMemorySlot(0) } catch { failure.withLock { $0 = error } }
        }
        let exit = setup.exit(of: .spin, UInt32(base), 7)
        remover.join()
        #expect(failure.withLock { $0 } == nil)
        #expect(exit == fault)
    }

    @Test func `E2 a private page in a slot without guest memory ends in the same fault`() throws {
        let setup = try PrivateGuest()
        let plain = try MemoryFile(name: "plain", size: ByteCount(page)).map(length: ByteCount(page))
        setup.guest.keep(plain)
        try setup.vm.deleteMemorySlot(0)
        try setup.vm.setMemorySlot(
            MemorySlot(
                id: 0, range: GuestPhysicalRange(base, page), userspaceAddress: UInt(bitPattern: plain.baseAddress)))
        try setup.vm.setMemoryAttributes(GuestPhysicalRange(base, page), isPrivate: true)
        #expect(setup.exit(of: .read, UInt32(base)) == fault)
    }

    @Test func `X5 access to memory whose file was closed is a memory fault, and the slot can still go`() throws {
        let setup = try PrivateGuest()
        try setup.vm.setMemoryAttributes(GuestPhysicalRange(base, page), isPrivate: true)
        setup.memory.close()
        #expect(setup.exit(of: .read, UInt32(base)) == fault)
        try setup.vm.deleteMemorySlot(0)
    }

    /// Private memory that the guest has filled.
    private func filledPrivately() throws -> PrivateGuest {
        let setup = try PrivateGuest()
        try setup.vm.setMemoryAttributes(GuestPhysicalRange(base, size), isPrivate: true)
        try setup.guest.fill(base, size, 0x77)
        try expectResident(setup.memory, FileRange(0, size), size)
        return setup
    }

    @Test func `X6 setting the attribute that a range has already loses no page and no byte`() throws {
        let setup = try filledPrivately()
        try setup.vm.setMemoryAttributes(GuestPhysicalRange(base, size), isPrivate: true)
        try expectResident(setup.memory, FileRange(0, size), size)
        #expect(try setup.guest.holds(0x77, base, size))
    }

    @Test func `X7 pages go at the punch, not at the conversion to shared`() throws {
        let setup = try filledPrivately()
        try setup.vm.setMemoryAttributes(GuestPhysicalRange(base, size), isPrivate: false)
        try expectResident(setup.memory, FileRange(0, size), size)
        try setup.memory.punchHole(FileRange(0, size))
        try expectResident(setup.memory, FileRange(0, size), 0)
    }
}
