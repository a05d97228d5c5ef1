import ControlInterface
import KVM
import Testing

@testable import TDHolder

@Suite struct `Choosing a backend` {
    static let everything = BackendOffers(
        vmTypes: 0b100011, hasGuestMemory: true, guestMemoryFlags: [.mmap, .initShared], hasPrivateAttribute: true)

    @Test func `Offers of everything choose tdx`() throws {
        #expect(try BackendChooser.choose(.auto, from: Self.everything).backend == .tdx)
    }

    @Test func `Without type 5 the software-protected VM is next`() throws {
        var offers = Self.everything
        offers.vmTypes = 0b11
        let choice = try BackendChooser.choose(.auto, from: offers)
        #expect(choice.backend == .softwareProtected)
        #expect(choice.reason.contains("no tdx: KVM offers no VM of type 5"))
    }

    @Test func `Type 1 without the private attribute falls to guest_memfd`() throws {
        var offers = Self.everything
        offers.vmTypes = 0b11
        offers.hasPrivateAttribute = false
        #expect(try BackendChooser.choose(.auto, from: offers).backend == .guestMemfd)
    }

    @Test(arguments: [GuestMemoryFlags.mmap, .initShared, []])
    func `guest_memfd without both flags is not enough`(_ flags: GuestMemoryFlags) throws {
        let offers = BackendOffers(
            vmTypes: 1, hasGuestMemory: true, guestMemoryFlags: flags, hasPrivateAttribute: false)
        #expect(try BackendChooser.choose(.auto, from: offers).backend == .memfd)
    }

    @Test func `An unusable dev kvm leaves memfd and says why`() throws {
        var offers = Self.everything
        offers.obstacle = "/dev/kvm: EACCES"
        let choice = try BackendChooser.choose(.auto, from: offers)
        #expect(choice.backend == .memfd)
        #expect(choice.reason.contains("no guest_memfd: /dev/kvm: EACCES"))
    }

    @Test(arguments: Backend.allCases)
    func `A backend that is asked for by name is taken where it is offered`(_ backend: Backend) throws {
        #expect(try BackendChooser.choose(.fixed(backend), from: Self.everything).backend == backend)
    }

    @Test(arguments: [Backend.tdx, .softwareProtected, .guestMemfd])
    func `A backend that is asked for by name is refused where it is not offered`(_ backend: Backend) {
        let nothing = BackendOffers(
            vmTypes: 1, hasGuestMemory: false, guestMemoryFlags: [], hasPrivateAttribute: false)
        #expect(throws: BackendUnavailable.self) { try BackendChooser.choose(.fixed(backend), from: nothing) }
    }

    @Test func `Names are read with hyphen or underscore and anything else is refused`() {
        #expect(BackendChoice(parsing: "auto") == .auto)
        #expect(BackendChoice(parsing: "guest-memfd") == .fixed(.guestMemfd))
        #expect(BackendChoice(parsing: "software_protected") == .fixed(.softwareProtected))
        #expect(BackendChoice(parsing: "") == nil)
        #expect(BackendChoice(parsing: "kvm") == nil)
    }
}
