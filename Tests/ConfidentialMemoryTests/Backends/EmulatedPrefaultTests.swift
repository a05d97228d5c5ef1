import FirmwareImage
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import TDXEmulator
import TDXStatusCodes
import Testing

@testable import ConfidentialMemory

/// Pre-faulted TDs on the software module: what its Secure EPT has, and what a guest meets there. All of it is emulated.
@Suite struct EmulatedPrefaultTests {
    /// What the guest tells when it is done.
    private final class Accepted: Sendable {
        let pages = Mutex<UInt64?>(nil)
    }

    private static let size = ByteCount.mebibytes(16)

    private static func inspection(_ domain: TrustDomain) -> EmulatedInspection {
        (domain.machine as! EmulatedVirtualMachine).inspection
    }

    /// Accepts every page of RAM, says how many it could, and rests.
    private static func acceptingGuest(_ accepted: Accepted) -> GuestProgram {
        GuestProgram { processor throws(GuestFault) in
            var count: UInt64 = 0
            for page in 0..<size.pages.rawValue
            where try processor.accept(GuestFrameNumber(page).address).rawValue == 0 { count += 1 }
            accepted.pages.withLock { $0 = count }
            while true { try processor.pause() }
        }
    }

    /// Runs a guest that accepts all its memory; how many times it left the TD for that, and how many pages were then mapped.
    private static func run(_ ground: EmulatedGround, prefaulted: Bool, preallocated: Bool = false) throws
        -> (exits: UInt64, mapped: UInt64)
    {
        try Signals.makeInterrupting(.kick)
        let accepted = Accepted()
        let emulator = try EmulatedKVMSystem(
            EmulatorConfiguration(host: try ground.host(), guest: acceptingGuest(accepted)))
        var configuration = TrustDomainConfiguration(
            name: "prefault", layout: try GuestMemoryLayout(memory: size), vcpus: 2)
        configuration.isPrefaulted = prefaulted
        configuration.isPreallocated = preallocated
        let domain = try TrustDomain(configuration, system: emulator)
        let before = inspection(domain)
        #expect(before.privatePages == (prefaulted ? size.pages : PageCount(0)))
        #expect(before.seamcalls["TDH.MEM.PAGE.AUG", default: 0] == (prefaulted ? size.pages.rawValue : 0))
        #expect(domain.describe().resident?.private == (prefaulted || preallocated ? size : .zero))
        let vcpu = domain.vcpus[0]
        let thread = try SystemThread(name: "vcpu") { _ = VCPULoop.run(vcpu, of: domain) { _ in false } }
        wait { accepted.pages.withLock { $0 } != nil }
        #expect(accepted.pages.withLock { $0 } == size.pages.rawValue, "every page can be accepted once")
        let after = inspection(domain)
        let aug = "TDH.MEM.PAGE.AUG"
        let mapped = after.seamcalls[aug, default: 0] - before.seamcalls[aug, default: 0]
        let exits = after.seamcalls["TDH.VP.ENTER", default: 0] - before.seamcalls["TDH.VP.ENTER", default: 0]
        #expect(try domain.stop().failures.isEmpty)
        thread.join()
        #expect(emulator.freeKeyIDs == 1 && emulator.framesInUse.controlPages == 0)
        return (exits, mapped)
    }

    @Test(arguments: EmulatedGround.available)
    func `a guest that accepts all its memory meets no fault, and without pre-faulting one for each page`(
        ground: EmulatedGround
    ) throws {
        let pages = Self.size.pages.rawValue
        #expect(try Self.run(ground, prefaulted: true).mapped == 0)
        #expect(try Self.run(ground, prefaulted: true, preallocated: true).mapped == 0)
        let lazy = try Self.run(ground, prefaulted: false, preallocated: true)
        #expect(lazy.mapped == pages, "memory that is allocated is not mapped")
    }

    @Test(arguments: EmulatedGround.available)
    func `the image's pages stay as they were measured`(ground: EmulatedGround) throws {
        let emulator = try EmulatedKVMSystem(EmulatorConfiguration(host: try ground.host()))
        var configuration = try SmallFirmware.configuration()
        configuration.isPrefaulted = true
        let domain = try TrustDomain(configuration, system: emulator)
        let inspection = Self.inspection(domain)
        let pages = configuration.layout.backedSize.pages.rawValue
        let added = configuration.plan.addedSize.pages.rawValue
        #expect(inspection.measurement == domain.measurement.bytes)
        #expect(inspection.seamcalls["TDH.MEM.PAGE.ADD"] == added)
        #expect(inspection.seamcalls["TDH.MEM.PAGE.AUG"] == pages - added)
        #expect(inspection.privatePages.rawValue == pages && inspection.bug == nil)
        #expect(try domain.stop().failures.isEmpty)
    }

    @Test func `an emulated kernel without it says so at each scope, and makes no such TD`() throws {
        let emulator = try EmulatedKVMSystem(EmulatorConfiguration(host: .memfd, preFaults: false))
        #expect(try emulator.check(.preFaultMemory) == 0)
        var configuration = try SmallFirmware.configuration()
        configuration.isPrefaulted = true
        let wanted = configuration
        #expect {
            _ = try TrustDomain(wanted, system: emulator)
        } throws: { error in
            guard case .refused(let refusal)? = error as? TrustDomainError else { return false }
            return refusal.operation == "KVM_PRE_FAULT_MEMORY" && refusal.errno == .notSupportedOnSocket
        }
        #expect(emulator.freeKeyIDs == 1 && emulator.framesInUse.controlPages == 0)
        configuration.isPrefaulted = false
        let domain = try TrustDomain(configuration, system: emulator)
        #expect(throws: PreFaultError.self) { try domain.memory.preFault(through: domain.vcpus[0]) }
        #expect(try domain.stop().failures.isEmpty)
    }
}
