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

    private struct Setup {
        var guest: Guest
        var shared: FileMapping
        var memory: KernelGuestMemory?
        var setSlot: () throws -> Void
    }

    private func setUp(_ kind: Kind) throws -> Setup {
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
        return Setup(guest: guest, shared: shared, memory: memory) { try vm.setMemorySlot(slot) }
    }

    @Test(.enabled(if: !Kind.offered.isEmpty, "KVM_CAP_PRE_FAULT_MEMORY is 0"), arguments: Kind.offered)
    func `F1 a large page is faulted in as a whole`(kind: Kind) throws {
        let guest = try setUp(kind).guest
        let calls = try callUntilDoneOrRefused(guest, GuestPhysicalRange(base, large))
        #expect(calls.last == Call(refusal: nil, remaining: 0, place: base + large))
    }

    @Test(.enabled(if: !Kind.offered.isEmpty, "KVM_CAP_PRE_FAULT_MEMORY is 0"), arguments: Kind.offered)
    func `F2 two pages of which one exists are faulted in up to the slot's end, where ENOENT tells the place`(
        kind: Kind
    ) throws {
        let guest = try setUp(kind).guest
        let range = GuestPhysicalRange(base + large, 2 * page)
        let calls = try callUntilDoneOrRefused(guest, range)
        #expect(
            calls.last == Call(refusal: .noSuchFileOrDirectory, remaining: page, place: base + large + page))
        // And so the library says it.
        do throws(KVMError) {
            try guest.vcpu.preFault(range)
            Issue.record("the second page does not exist")
        } catch {
            #expect(error.errno == .noSuchFileOrDirectory)
            #expect(error.detail.contains("stopped at 0x\(String(base + large + page, radix: 16))"), "\(error)")
        }
    }

    @Test(.enabled(if: !Kind.offered.isEmpty, "KVM_CAP_PRE_FAULT_MEMORY is 0"), arguments: Kind.offered)
    func `F3 a page behind the slot is refused with ENOENT and remains to be done`(kind: Kind) throws {
        let guest = try setUp(kind).guest
        let place = base + large + page
        let calls = try callUntilDoneOrRefused(guest, GuestPhysicalRange(place, page))
        #expect(calls == [Call(refusal: .noSuchFileOrDirectory, remaining: page, place: place)])
    }

    @Test(.enabled(if: !Kind.offered.isEmpty, "KVM_CAP_PRE_FAULT_MEMORY is 0"), arguments: Kind.offered)
    func `F4 what remains shrinks if and only if the call succeeds`(kind: Kind) throws {
        let guest = try setUp(kind).guest
        let ranges = [
            GuestPhysicalRange(base, large), GuestPhysicalRange(base, large + page),
            GuestPhysicalRange(base + page, page), GuestPhysicalRange(base + large, 2 * page),
            GuestPhysicalRange(base + large + page, page), GuestPhysicalRange(base + 1, page),
            GuestPhysicalRange(base, page - 1), GuestPhysicalRange(base, 0),
        ]
        for range in ranges {
            var before = range.size.rawValue
            for call in try callUntilDoneOrRefused(guest, range) {
                #expect((call.remaining < before) == (call.refusal == nil), "\(range): \(call), of \(before) before")
                #expect(call.place + call.remaining == range.start.rawValue + range.size.rawValue)
                before = call.remaining
            }
        }
    }

    /// What one KVM_PRE_FAULT_MEMORY answered.
    private struct Call: Equatable { var refusal: Errno?, remaining: UInt64, place: UInt64 }

    /// The kernel's own calls, until nothing remains or one is refused; those that a signal or a lock interrupted are
    /// made again and not told.
    private func callUntilDoneOrRefused(_ guest: Guest, _ range: GuestPhysicalRange) throws -> [Call] {
        let vcpu = try #require(guest.vcpu as? KernelVirtualCPU)
        var (place, remaining) = (range.start.rawValue, range.size.rawValue)
        var calls: [Call] = []
        repeat {
            let refusal = try vcpu.preFaultOnce(&place, &remaining)
            if refusal == .interrupted || refusal == .resourceTemporarilyUnavailable { continue }
            calls.append(Call(refusal: refusal, remaining: remaining, place: place))
        } while remaining > 0 && calls.last?.refusal == nil
        return calls
    }

    @Test(.enabled(if: !Kind.offered.isEmpty, "KVM_CAP_PRE_FAULT_MEMORY is 0"), arguments: Kind.offered)
    func `F5 a slot that is deleted and made again meanwhile neither hangs nor breaks pre-faulting`(kind: Kind) throws {
        let setup = try setUp(kind)
        let guest = setup.guest
        let failure = Mutex<(any Error)?>(nil)
        nonisolated(unsafe) let makeAgain = setup.setSlot
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

    @Test(.enabled(if: !Kind.offered.isEmpty, "KVM_CAP_PRE_FAULT_MEMORY is 0"), arguments: Kind.offered)
    func `F6 a guest reads and writes every page that was faulted in before`(kind: Kind) throws {
        let guest = try setUp(kind).guest
        try guest.vcpu.preFault(GuestPhysicalRange(base, large + page))
        #expect(try guest.holds(0, base, large + page))
        try guest.fill(base, large + page, 0x42)
        #expect(try guest.holds(0x42, base, large + page))
    }

    @Test(
        .enabled(
            if: Kind.offered.contains(.privateInProtectedVM), "no private memory, or KVM_CAP_PRE_FAULT_MEMORY is 0"))
    func `F7 private memory is faulted in in guest_memfd, and the shared side stays empty`() throws {
        let setup = try setUp(.privateInProtectedVM)
        let (guest, memory) = (setup.guest, try #require(setup.memory))
        try expectResident(memory, FileRange(0, large + page), 0)
        try guest.vcpu.preFault(GuestPhysicalRange(base, large + page))
        try expectResident(memory, FileRange(0, large + page), large + page)
        #expect(try guest.holds(0, base, large + page))
        try guest.fill(base, large + page, 0x42)
        #expect(setup.shared.holds(0))
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
