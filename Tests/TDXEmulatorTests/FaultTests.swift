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
    func `A key that cannot be configured on a package undoes INIT_VM`(package: Int) throws {
        let (system, vm) = try machine()
        system.faults.arm(.keyGeneration, skipping: package)
        expectErrno(.ioError) { try vm.tdxInitialize(TestTD.parameters()) }
        expectUntouched(system)
        #expect(vm.inspection.bug == nil)
        #expect(vm.inspection.seamcalls["TDH.MNG.KEY.FREEID"] == 1)
        // The VM is uninitialised and usable again.
        try vm.tdxInitialize(TestTD.parameters())
        vm.close()
        expectUntouched(system)
    }

    @Test func `A failing MNG.INIT is EIO with its status and undoes everything`() throws {
        let (system, vm) = try machine()
        system.faults.arm(.cpuidLimit)
        do {
            try vm.tdxInitialize(TestTD.parameters())
            Issue.record("INIT_VM succeeded")
        } catch {
            #expect(error.errno == .ioError && error.status == .limitCPUIDMaxvalSet)
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
        expectErrno(.ioError) { try vcpu.tdxInitialize(initialRCX: 0) }
        #expect(vm.inspection.bug?.contains("TDH.VP.INIT") == true)
        expectErrno(.ioError) { _ = try vm.check(.guestMemfdFlags) }
        expectErrno(.ioError) { try vcpu.tdxInitialize(initialRCX: 0) }
        vcpu.close()
        vm.close()
        #expect(vm.inspection.isDestroyed && vm.inspection.keyState == "FREE")
        #expect(vm.inspection.leakedPages == .zero)
        expectUntouched(system)
    }
}
