import KVM
import MemoryUnits
import SystemPackage
import TDXModule
import TDXStatusCodes
import Testing

@testable import TDXEmulator

/// What KVM makes of conditions in which the module refuses. Source: reference/kvm.md §1.5, §4.4, §4.5.
@Suite struct FaultTests {
    private func machine() throws -> (EmulatedKVMSystem, EmulatedVirtualMachine) {
        let system = try EmulatedKVMSystem(EmulatorConfiguration(host: .memfd, packages: 2, memory: .gibibytes(4)))
        return (system, try system.createTrustDomainVM())
    }

    private func expectUntouched(_ system: EmulatedKVMSystem, location: SourceLocation = #_sourceLocation) {
        #expect(system.freeKeyIDs == 1, sourceLocation: location)
        #expect(system.framesInUse == (0, 0), sourceLocation: location)
    }

    @Test func `Nine times without entropy are retried and the tenth is EAGAIN`() throws {
        let (system, vm) = try machine()
        system.faults.arm(.entropy, times: 10)
        expectErrno(.resourceTemporarilyUnavailable) { try vm.tdxInitialize(TestTD.parameters()) }
        expectUntouched(system)
        system.faults.arm(.entropy, times: 9)
        try vm.tdxInitialize(TestTD.parameters())
        #expect(vm.inspection.seamcalls["TDH.MNG.CREATE"] == 20)
        vm.close()
        expectUntouched(system)
    }

    @Test(arguments: [0, 1])
    func `A key that cannot be configured on a package is a KVM_BUG_ON, and the key id comes back`(package: Int) throws
    {
        let (system, vm) = try machine()
        system.faults.arm(.keyGeneration, skipping: package)
        expectErrno(.ioError) { try vm.tdxInitialize(TestTD.parameters()) }
        expectUntouched(system)
        #expect(vm.bug?.text.contains("TDH.MNG.KEY.CONFIG") == true)
        #expect(vm.inspection.seamcalls["TDH.MNG.KEY.FREEID"] == 1)
        expectErrno(.ioError) { try vm.tdxInitialize(TestTD.parameters()) }
        vm.close()
        expectUntouched(system)
    }

    @Test func `A failing MNG.INIT is EIO, a KVM_BUG_ON, and undoes everything`() throws {
        let (system, vm) = try machine()
        system.faults.arm(.cpuidLimit)
        do {
            try vm.tdxInitialize(TestTD.parameters())
            Issue.record("INIT_VM succeeded")
        } catch {
            // User space is told of "operand invalid" alone.
            #expect(error.errno == .ioError && error.status == nil)
            #expect(vm.bug?.status == .limitCPUIDMaxvalSet)
        }
        expectUntouched(system)
        vm.close()
        expectUntouched(system)
    }

    @Test func `An interrupted cache write-back is resumed`() throws {
        let td = try TestTD(.memfd)
        td.system.faults.arm(.interrupt, times: 3)
        td.close()
        td.expectNothingLeft()
        #expect(td.vm.inspection.seamcalls["TDH.PHYMEM.CACHE.WB"] == 4)
    }

    @Test func `A vCPU that the module refuses kills the VM, which still gives everything back`() throws {
        let (system, vm) = try machine()
        try vm.tdxInitialize(TestTD.parameters())
        try vm.enable(.splitIRQChip, [24])
        let vcpu = try vm.createVCPU(id: 0)
        system.faults.arm(.tscAdjust)
        expectErrno(.ioError) { try vcpu.initialize() }
        #expect(vm.inspection.bug?.text.contains("TDH.VP.INIT") == true)
        expectErrno(.ioError) { _ = try vm.check(.guestMemfdFlags) }
        expectErrno(.ioError) { try vcpu.tdxInitialize(initialRCX: 0) }
        vcpu.close()
        vm.close()
        #expect(vm.inspection.isDestroyed && vm.inspection.keyState == "FREE")
        #expect(vm.inspection.leakedPages == .zero)
        expectUntouched(system)
    }

    @Test(arguments: [TerminateSupport.absent, .announced], [1, 3])
    func `A page that the module does not give up kills the VM and stays the module's, wherever it is in the row`(
        terminate: TerminateSupport, number: Int
    ) throws {
        let td = try TestTD(.memfd) {
            $0.terminate = terminate
            $0.failingRemoval = number
        }
        for page in 0..<4 as Range<UInt64> { try td.add([UInt8](repeating: 1, count: 4096), at: page * 4096) }
        try td.vm.tdxFinalize()
        if terminate != .absent { try td.vm.tdxTerminate() }
        #expect(td.vm.bug == nil)
        // The kernel frees the file's pages all the same, and says nothing.
        try td.memory.punchHole(td.wholeFile)
        try td.expectResident(.zero)
        let leaf = terminate == .absent ? "TDH.MEM.PAGE.REMOVE" : "TDH.PHYMEM.PAGE.RECLAIM"
        let bug = try #require(td.vm.bug)
        #expect(bug.text.contains(leaf) && bug.text.contains("PAGE_METADATA_INCORRECT"), "\(bug)")
        #expect(bug.status == .pageMetadataIncorrect.with(.rcx))
        #expect(td.vm.inspection.bug == bug)
        #expect(td.vm.inspection.privatePages == PageCount(UInt64(4 - number + 1)))
        expectErrno(.ioError) { _ = try td.vm.check(.guestMemfdFlags) }
        td.close()
        #expect(td.vm.bug == bug)
    }
}
