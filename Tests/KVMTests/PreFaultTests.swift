import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

/// The kernel's pre_fault_memory_test, row by row.
struct PreFaultTests {
    private let page: UInt64 = 4096
    private let large: UInt64 = 2 << 20
    private let base: UInt64 = 0x1000_0000

    /// What kind of memory is faulted in.
    enum Kind: String, CaseIterable, Sendable {
        case sharedInDefaultVM, sharedInProtectedVM, privateInProtectedVM

        var type: VMType { self == .sharedInDefaultVM ? .default : .softwareProtected }
        var isPrivate: Bool { self == .privateInProtectedVM }

        static let offered: [Self] = Machine.hasPreFault ? allCases.filter { Machine.types.contains($0.type) } : []
    }

    private func setUp(_ kind: Kind) throws -> (guest: Guest, shared: FileMapping, setSlot: () throws -> Void) {
        let vm = try Machine.createVM(kind.type)
        let size = large + page
        let shared = try MemoryFile(name: "shared", size: ByteCount(size)).map(length: ByteCount(size))
        let memory = kind.isPrivate ? try vm.createKernelGuestMemory(size: ByteCount(size), flags: []) : nil
        let slot = MemorySlot(
            id: 0, range: GuestPhysicalRange(base, size), userspaceAddress: UInt(bitPattern: shared.baseAddress),
            guestMemory: memory)
        try vm.setMemorySlot(slot)
        if kind.isPrivate { try vm.setMemoryAttributes(slot.range, isPrivate: true) }
        let guest = try Guest(vm)
        guest.keep(shared)
        if let memory { guest.keep(memory) }
        return (guest, shared, { try vm.setMemorySlot(slot) })
    }

    @Test(.enabled(if: !Kind.offered.isEmpty, "KVM_CAP_PRE_FAULT_MEMORY is 0"), arguments: Kind.offered)
    func `F1 to F4, F6, F7 pages are faulted in up to the slot's end, where ENOENT tells the place`(kind: Kind) throws {
        let (guest, _, _) = try setUp(kind)
        // F1
        try guest.vcpu.preFault(GuestPhysicalRange(base, large))
        // F2: one of two pages exists.
        do throws(KVMError) {
            try guest.vcpu.preFault(GuestPhysicalRange(base + large, 2 * page))
            Issue.record("the second page does not exist")
        } catch {
            #expect(error.errno == .noSuchFileOrDirectory)
            let place = String(base + large + page, radix: 16)
            #expect(error.detail.contains("stopped at 0x\(place)"), "\(error)")
        }
        // F3
        expectRefusal(.noSuchFileOrDirectory) {
            try guest.vcpu.preFault(GuestPhysicalRange(base + large + page, page))
        }
        // F4: refusals of the request itself change nothing.
        for range in [GuestPhysicalRange(base + 1, page), GuestPhysicalRange(base, page - 1)] {
            expectRefusal(.invalidArgument) { try guest.vcpu.preFault(range) }
        }
        // F6
        #expect(try guest.holds(0, base, large + page))
        try guest.fill(base, large + page, 0x42)
        #expect(try guest.holds(0x42, base, large + page))
    }

    @Test(.enabled(if: !Kind.offered.isEmpty, "KVM_CAP_PRE_FAULT_MEMORY is 0"), arguments: Kind.offered)
    func `F5 a slot that is deleted and made again meanwhile neither hangs nor breaks pre-faulting`(kind: Kind) throws {
        let (guest, _, setSlot) = try setUp(kind)
        let failure = Mutex<(any Error)?>(nil)
        nonisolated(unsafe) let makeAgain = setSlot
        let changer = try SystemThread(name: "changer") { [vm = guest.vm] in
            do {
                for _ in 0..<10 {
                    try vm.deleteMemorySlot(0)
                    try makeAgain()
                }
            } catch {
                failure.withLock { $0 = error }
            }
        }
        for _ in 0..<10 {
            do throws(KVMError) {
                try guest.vcpu.preFault(GuestPhysicalRange(base, large))
            } catch {
                // Without a slot a shared page has no place (ENOENT), a private one no file (EFAULT).
                #expect([.noSuchFileOrDirectory, .badAddress].contains(error.errno), "\(error)")
            }
        }
        changer.join()
        #expect(failure.withLock { $0 } == nil)
        try guest.vcpu.preFault(GuestPhysicalRange(base, large))
        #expect(try guest.holds(0, base, large))
    }

    @Test(.enabled(if: Machine.hasKVM && !Machine.hasPreFault, "KVM can pre-fault"))
    func `without the capability pre-faulting is refused, not pretended`() throws {
        let vm = try Machine.createVM()
        try vm.setMemorySlot(MemorySlot(id: 0, range: GuestPhysicalRange(0, page), userspaceAddress: 0))
        let vcpu = try vm.createVCPU(id: 0)
        expectRefusal(.notSupportedOnSocket, .inappropriateIOCTLForDevice, .invalidArgument) {
            try vcpu.preFault(GuestPhysicalRange(0, page))
        }
    }
}
