import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

/// The rows of set_memory_region_test that change slots under a running guest.
@Suite(.enabled(if: Machine.hasKVM, "there is no usable /dev/kvm"))
struct RunningSlotTests {
    private let page: UInt64 = 4096
    private let address: UInt64 = 0x20_0000

    /// A guest with one page of plain memory at `address`, in slot 1.
    private func guestWithPage(_ value: UInt8) throws -> (Guest, FileMapping) {
        let vm = try Machine.createVM()
        let mapping = try MemoryFile(name: "page", size: ByteCount(2 * page)).map(length: ByteCount(2 * page))
        mapping.fill(value)
        let guest = try Guest(vm)
        guest.keep(mapping)
        try setSlot(vm, mapping, at: address)
        return (guest, mapping)
    }

    private func setSlot(_ vm: KernelVirtualMachine, _ mapping: FileMapping, at start: UInt64) throws {
        try vm.setMemorySlot(
            MemorySlot(
                id: 1, range: GuestPhysicalRange(start, 2 * page),
                userspaceAddress: UInt(bitPattern: mapping.baseAddress)))
    }

    @Test func `R11 moving a slot shows the guest the old memory, the new, or none, but never stale data`() throws {
        let (guest, mapping) = try guestWithPage(0x11)
        // The page behind differs, so a read through the moved slot would show it: the guest reads the first page's end
        // after a move down by one page only as MMIO or as what then lies there, which has the same value.
        mapping.fill(0x11, page)
        let moves = 50
        let failure = Mutex<(any Error)?>(nil)
        let moving = Mutex(true)
        let mover = try SystemThread(name: "mover") { [vm = guest.vm] in
            do {
                for _ in 0..<moves {
                    try setSlot(vm, mapping, at: address - page)
                    try setSlot(vm, mapping, at: address)
                }
            } catch {
                failure.withLock { $0 = error }
            }
            moving.withLock { $0 = false }
            // What ends the guest's loop: one aligned store, because the guest may read between the bytes of a fill.
            mapping.baseAddress.storeBytes(of: 0x2222_2222, as: UInt32.self)
        }
        let seen = try guest.ask(.spin, UInt32(address), 0x1111_1111) { exit in
            guard case .mmio(isWrite: false, let place, let data) = exit, place.rawValue == address, data.count == 4
            else {
                throw Guest.Failure.unexpected(exit)
            }
            guest.vcpu.completeInput([0x11, 0x11, 0x11, 0x11])
        }
        mover.join()
        #expect(failure.withLock { $0 } == nil)
        #expect(!moving.withLock { $0 })
        #expect(seen == 0x2222_2222)
    }

    @Test func `R12 reads of a deleted slot become MMIO, and the guest goes on with the answer`() throws {
        let (guest, _) = try guestWithPage(0x33)
        #expect(try guest.ask(.read, UInt32(address)) == 0x3333_3333)
        try guest.vm.deleteMemorySlot(1)
        var exits = 0
        let answer = try guest.ask(.read, UInt32(address)) { exit in
            guard case .mmio(isWrite: false, let place, _) = exit, place.rawValue == address else {
                throw Guest.Failure.unexpected(exit)
            }
            exits += 1
            guest.vcpu.completeInput([1, 2, 3, 4])
        }
        #expect(answer == 0x0403_0201)
        #expect(exits == 1)
    }

    @Test func `R13 a slot made again with other memory reads zero, and the memory it had before is untouched`() throws
    {
        let (guest, mapping) = try guestWithPage(0x33)
        #expect(try guest.ask(.read, UInt32(address)) == 0x3333_3333)
        try guest.vm.deleteMemorySlot(1)
        let fresh = try MemoryFile(name: "fresh", size: ByteCount(2 * page)).map(length: ByteCount(2 * page))
        guest.keep(fresh)
        try setSlot(guest.vm, fresh, at: address)
        #expect(try guest.ask(.read, UInt32(address)) == 0)
        #expect(mapping.holds(0x33))
    }

    @Test func `R14 deleting the slot of the guest's own code ends the guest`() throws {
        let (guest, _) = try guestWithPage(0)
        _ = try guest.ask(.read, UInt32(address))
        let before = try guest.vcpu.registers().rip
        try guest.vm.deleteMemorySlot(30)
        let exit = try guest.exit()
        switch exit {
        case .shutdown: break
        case .internalError:
            // The OUT that was under way may still be completed, which moves RIP by its one byte.
            #expect([before, before + 1].contains(try guest.vcpu.registers().rip))
        default: Issue.record("\(exit)")
        }
    }

    @Test(.enabled(if: Machine.hasTwoDimensionalPaging, "faults of an emulated guest are delivered by software"))
    func `R15 an interrupt table in a device is reported as a failed delivery`() throws {
        let (guest, mapping) = try guestWithPage(0)
        let table: UInt64 = 0x4000_0000
        // What LIDT loads: limit, then base.
        mapping.store([0xFF, 0x07, 0, 0, 0, 0x40], at: 0)
        var outcome: VCPUExit?
        _ = try? guest.ask(.fault, UInt32(address)) { exit in
            outcome = exit
            throw Guest.Failure.unexpected(exit)
        }
        guard case .internalError(let subcode, let data) = try #require(outcome) else {
            Issue.record("\(String(describing: outcome))")
            return
        }
        #expect(subcode == 3)
        #expect(data.count != 4)
        // Entry 13 of a table with entries of eight bytes.
        #expect(data.count > 3 && data[3] == table + 13 * 8)
    }
}
