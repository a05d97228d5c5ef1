import FirmwareImage
import KVM
import MemoryUnits
import SystemPackage
import TDXEmulator
import TDXStatusCodes
import Testing

@testable import ConfidentialMemory

private let kernel = try? KernelKVMSystem()
private let hasGuestMemfd = ((try? kernel?.check(.guestMemfdFlags)) ?? 0) & 3 == 3

/// The memory under an emulated host.
enum EmulatedGround: String, CaseIterable, Sendable {
    case memfd
    case guestMemfd

    static let available: [Self] = hasGuestMemfd ? [.memfd, .guestMemfd] : [.memfd]

    func host() throws -> EmulatedHost {
        switch self {
        case .memfd: .memfd
        case .guestMemfd: .guestMemfd(try KernelKVMSystem())
        }
    }
}

/// TDs on the software module, through the same code that runs on hardware, over real memory. The guest_memfd ground is
/// left out where the host has no usable /dev/kvm.
@Suite struct EmulatedTrustDomainTests {
    private struct Bench {
        let emulator: EmulatedKVMSystem
        let journal = CallJournal()
        let system: ObservedKernel

        init(
            _ ground: EmulatedGround, _ terminate: TDXEmulator.TerminateSupport = .announced, failingRemoval: Int? = nil
        ) throws {
            emulator = try EmulatedKVMSystem(
                EmulatorConfiguration(
                    host: try ground.host(), terminate: terminate, failingRemoval: failingRemoval))
            system = ObservedKernel(emulator, journal)
        }

        func makeDomain() throws -> TrustDomain {
            try TrustDomain(
                try SmallFirmware.configuration(), system: system,
                host: ObservedMemoryHost(LinuxMemoryHost(), journal))
        }

        /// Nothing of any TD is left in the emulated host.
        var isEmpty: Bool {
            emulator.freeKeyIDs == 1 && emulator.framesInUse.controlPages == 0
                && emulator.framesInUse.fileChunks == 0
        }
    }

    private static func inspection(_ domain: TrustDomain) -> EmulatedInspection {
        ((domain.machine as! ObservedMachine).inner as! EmulatedVirtualMachine).inspection
    }

    @Test(arguments: EmulatedGround.available)
    func `the computed MRTD is the module's own`(ground: EmulatedGround) throws {
        let bench = try Bench(ground)
        let domain = try bench.makeDomain()
        #expect(Self.inspection(domain).measurement == domain.measurement.bytes)
        #expect(domain.describe().resident?.private == .kibibytes(32))
        #expect(Self.inspection(domain).privatePages == PageCount(8))
        #expect(try domain.stop().failures.isEmpty)
        #expect(bench.isEmpty)
    }

    @Test(arguments: EmulatedGround.available)
    func `an empty TD measures as nothing`(ground: EmulatedGround) throws {
        let bench = try Bench(ground)
        let configuration = TrustDomainConfiguration(
            name: "empty", layout: try GuestMemoryLayout(memory: .mebibytes(8)), vcpus: 3)
        let domain = try TrustDomain(configuration, system: bench.system)
        #expect(domain.measurement == LaunchMeasurement().value)
        #expect(Self.inspection(domain).measurement == domain.measurement.bytes)
        _ = try domain.stop()
        #expect(bench.isEmpty)
    }

    @Test(arguments: EmulatedGround.available)
    func `converting takes added pages from the module and gives them back to the host`(ground: EmulatedGround) throws {
        let bench = try Bench(ground)
        let domain = try bench.makeDomain()
        // TempMem: three pages at 0 that were added.
        let range = range(0, pages: 3)
        let result = try domain.convert(range, to: .shared)
        #expect(result.changed == range.size && result.discarded == range.size)
        #expect(Self.inspection(domain).privatePages == PageCount(5))
        #expect(Self.inspection(domain).seamcalls["TDH.MEM.PAGE.REMOVE"] == 3)
        let view = try #require(domain.memory.hostView(of: range))
        #expect(view.allSatisfy { $0 == 0 })
        view.initializeMemory(as: UInt8.self, repeating: 0x77)
        #expect(try domain.memory.residency(of: range).shared == range.size)
        #expect(try domain.convert(range, to: .private).discarded == range.size)
        #expect(view.allSatisfy { $0 == 0 }, "what the host wrote is gone with the shared side")
        #expect(try domain.stop().failures.isEmpty)
        #expect(bench.isEmpty)
    }

    @Test(
        arguments: EmulatedGround.available,
        [
            TDXEmulator.TerminateSupport.announced, .unannounced, .absent, .busy(times: 3),
        ])
    func `a TD ends on every kind of kernel with nothing left`(
        ground: EmulatedGround, terminate: TDXEmulator.TerminateSupport
    ) throws {
        let bench = try Bench(ground, terminate)
        let domain = try bench.makeDomain()
        let inspection = Self.inspection(domain)
        #expect(inspection.privatePages == PageCount(8))
        let machine = (domain.machine as! ObservedMachine).inner as! EmulatedVirtualMachine
        bench.journal.reset()
        let report = try domain.stop()
        #expect(report.failures.isEmpty)
        #expect(report.path == (terminate == .absent ? .dynamicRemoval : .terminateFirst))
        #expect(report.released == .kibibytes(32))
        #expect(report.remaining == .zero)
        let names = bench.journal.names
        if terminate != .absent {
            let terminated = try #require(names.lastIndex(of: "terminate"))
            #expect(names[..<terminated].allSatisfy { !TeardownTests.zaps.contains($0) }, "\(names)")
            #expect(machine.inspection.seamcalls["TDH.MEM.PAGE.REMOVE", default: 0] == 0)
        } else {
            #expect(machine.inspection.seamcalls["TDH.MEM.PAGE.REMOVE"] == 8)
        }
        #expect(machine.inspection.isDestroyed)
        #expect(machine.inspection.bug == nil)
        #expect(bench.isEmpty)
    }

    @Test(arguments: EmulatedGround.available, [TDXEmulator.TerminateSupport.absent, .announced])
    func `where a page cannot be taken from a TD nothing more is given back and all stays open`(
        ground: EmulatedGround, terminate: TDXEmulator.TerminateSupport
    ) throws {
        let bench = try Bench(ground, terminate, failingRemoval: 1)
        let domain = try bench.makeDomain()
        let machine = (domain.machine as! ObservedMachine).inner as! EmulatedVirtualMachine
        // What a guest has used behind its scratch memory.
        let used = try domain.memory.residency().total
        let later = GuestPhysicalRange(start: GuestPhysicalAddress(4 << 20), size: .mebibytes(2))
        let (shard, _) = domain.memory.parts(of: later)![0]
        try shard.file.allocate(FileRange(offset: later.start - shard.range.start, length: later.size))
        let first = try domain.halt()
        bench.journal.reset()
        // One shard after another: what other threads have given back until then is back rightly.
        let policy = TeardownPolicy(chunk: .mebibytes(2), threads: 1)
        let report = try domain.release(
            after: first, policy: policy,
            emulatedFailure: {
                machine.bug.map { RemovalFailure(reason: $0.text, status: $0.status) }
            })
        #expect(report.isWithheld && report.failures.words?.hasPrefix("release: ") == true, "\(report)")
        #expect(report.failures.status == TDXStatus.pageMetadataIncorrect.with(.rcx).hexadecimal)
        #expect(report.failures.words?.contains("PAGE_METADATA_INCORRECT") == true)
        #expect(report.phases.map(\.name) == [.quiesce, .terminate, .release])
        #expect(!bench.journal.names.contains("close"), "\(bench.journal.names)")
        #expect(report.released <= used)
        let remaining = try #require(report.remaining)
        #expect(remaining >= later.size)
        #expect(domain.describe().resident?.total == remaining)
        #expect(bench.emulator.freeKeyIDs == (terminate == .absent ? 0 : 1))
        // For duplicates by somebody else, it is as open as that of a halted TD.
        var files = 0
        try domain.forEachBackingFile { _ in files += 1 }
        #expect(files == 2 * domain.memory.shardRanges.count)
        #expect(throws: TrustDomainError.self) { try domain.release(after: report) }
    }

    @Test func `without an emulated kernel's own word a VM that died behind a punch is seen by its ioctls alone`()
        throws
    {
        let bench = try Bench(.memfd, .absent, failingRemoval: 1)
        let domain = try bench.makeDomain()
        let report = try domain.stop()
        #expect(report.isWithheld && report.failures.words?.contains("the VM is dead") == true, "\(report)")
        // A terminated VM is dead to every ioctl, so that it cannot be told there.
        let terminated = try Bench(.memfd, .announced, failingRemoval: 1)
        let second = try terminated.makeDomain()
        let silent = try second.stop()
        #expect(!silent.isWithheld && silent.failures.isEmpty)
    }

    @Test(arguments: EmulatedGround.available)
    func `a second TD is refused while the only key id is taken, and made once it is back`(
        ground: EmulatedGround
    ) throws {
        let bench = try Bench(ground)
        let first = try bench.makeDomain()
        #expect {
            _ = try bench.makeDomain()
        } throws: { error in
            guard case .noKeyAvailable(let refusal)? = error as? TrustDomainError else { return false }
            return refusal.errno == .noSpace
        }
        _ = try first.stop()
        #expect(bench.isEmpty)
        let second = try bench.makeDomain()
        _ = try second.stop()
        #expect(bench.isEmpty)
    }

    /// Every call fails once while a TD is made and ended, on one of the grounds each. FaultInjectionTests do it with
    /// conversions, which would take minutes here.
    @Test(arguments: EmulatedGround.available)
    func `whichever call fails while a TD is made, the module and the host are empty afterwards`(
        ground: EmulatedGround
    ) throws {
        let whole = try Bench(ground)
        _ = try whole.makeDomain().stop()
        let calls = whole.journal.calls
        let errnos = [Errno.noMemory, .ioError, .resourceBusy, .interrupted]
        let share = EmulatedGround.available.firstIndex(of: ground)!
        for (position, call) in calls.enumerated()
        where call.canFail && position % EmulatedGround.available.count == share {
            let bench = try Bench(ground)
            bench.journal.fail(at: position, with: errnos[position % errnos.count])
            do {
                _ = try bench.makeDomain().stop()
            } catch {
                #expect("\(error)".contains(call.name), "\(position) \(call): \(error)")
            }
            #expect(bench.isEmpty, "\(position) \(call)")
        }
    }
}
