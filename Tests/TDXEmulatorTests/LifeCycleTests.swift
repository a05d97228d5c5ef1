import KVM
import MemoryUnits
import Synchronization
import SystemPackage
import TDXStatusCodes
import Testing

@testable import TDXEmulator

private func hex(_ bytes: [UInt8]?) -> String? {
    bytes.map { $0.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() }
}

/// Lines from several threads.
private final class SharedList: Sendable {
    private let lines = Mutex<[String]>([])
    func append(_ line: String) { lines.withLock { $0.append(line) } }
    var count: Int { lines.withLock { $0.count } }
}

/// Rows of the conformance list: reference/kvm.md §7.6.
@Suite struct LifeCycleTests {
    private static let zeroPage = [UInt8](repeating: 0, count: 4096)

    @Test(arguments: TestHost.available)
    func `An empty TD measures as the hash of nothing`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.vm.tdxFinalize()
        #expect(
            hex(td.vm.inspection.measurement)
                == "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b")
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `Known pages give the known measurement`(host: TestHost) throws {
        let cases: [(String, (TestTD) throws -> Void)] = [
            (
                "8f3e9a8aca6784eab874f7aa4dda5d49104a88047f1f86695ef2a88f5691a90e34aac48ce45ffa1f5a23c7d62980d570",
                { try $0.add(Self.zeroPage, at: 0, measured: false) }
            ),
            (
                "236f0efa607ff8843f1855d7ef80dc3dda8fb455787a186b8787212951eab0096e3193bb26f817c2b63c21f5e10f9938",
                { try $0.add(Self.zeroPage, at: 0) }
            ),
            (
                "15a8464628b6214951c4a1b57775507dd950263654e8790e257995b45013c84aba1d87a3bcbc1929b5f7db6d3e92cad6",
                { try $0.add((0..<4096).map { UInt8(truncatingIfNeeded: $0) }, at: 0x1000) }
            ),
            (
                "d88b05f52648c041e7f0321f3905ec848a2d2654cf8c2158f67bc25ecd8a1a999f5f65f5350db0f732b59cfc66d6da3b",
                { try $0.add([UInt8](repeating: 0, count: 8192), at: 0, measured: false) }
            ),
        ]
        for (expected, load) in cases {
            let td = try TestTD(host)
            try load(td)
            try td.vm.tdxFinalize()
            #expect(hex(td.vm.inspection.measurement) == expected)
            td.close()
            td.expectNothingLeft()
        }
    }

    @Test(arguments: TestHost.available)
    func `Loaded bytes are the real file's bytes and only loaded pages are resident`(host: TestHost) throws {
        let td = try TestTD(host)
        let bytes = (0..<8192).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        try td.add(bytes, at: 0x20_1000)
        try td.expectResident(PageCount(2))
        #expect(try td.contents(0x20_1000, 8192) == bytes)
        try td.expectResident(PageCount(2))
        #expect(td.vm.inspection.privatePages == PageCount(2))
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `X8 commands are refused in the wrong state as the kernel refuses them`(host: TestHost) throws {
        let system = try EmulatedKVMSystem(EmulatorConfiguration(host: host.host, memory: .gibibytes(4)))
        let vm = try system.createTrustDomainVM()
        expectErrno(.ioError) { _ = try vm.createVCPU(id: 0) }
        expectErrno(.invalidArgument) { try vm.tdxFinalize() }
        try vm.tdxInitialize(TestTD.parameters())
        expectErrno(.invalidArgument) { try vm.tdxInitialize(TestTD.parameters()) }
        expectErrno(.invalidArgument) { _ = try vm.createVCPU(id: 0) }
        try vm.enable(.splitIRQChip, [24])
        expectErrno(.invalidArgument) { _ = try vm.createVCPU(id: 4096) }
        let vcpu = try vm.createVCPU(id: 0)
        expectErrno(.fileExists) { _ = try vm.createVCPU(id: 0) }
        let page = PageBuffer(Self.zeroPage)
        expectErrno(.invalidArgument) {
            try vcpu.tdxInitializeMemory(
                from: page.bytes, at: GuestPhysicalAddress(0), measured: true, progress: { _ in })
        }
        expectErrno(.invalidArgument) { _ = try vcpu.run() }
        // Without x2APIC in the vCPU's CPUID its APIC base is refused, and no list of INIT_VM can hold that bit.
        expectErrno(.invalidArgument) { try vcpu.tdxInitialize(initialRCX: 0) }
        try vcpu.setCPUID(TestTD.parameters().cpuid)
        expectErrno(.invalidArgument) { try vcpu.tdxInitialize(initialRCX: 0) }
        #expect(vm.inspection.seamcalls["TDH.VP.CREATE"] == nil)
        try vcpu.initialize()
        expectErrno(.invalidArgument) { try vcpu.tdxInitialize(initialRCX: 0) }
        expectErrno(.invalidArgument) { _ = try vcpu.run() }
        expectErrno(.notSupportedOnSocket) {
            try vcpu.preFault(GuestPhysicalRange(start: GuestPhysicalAddress(0), size: ByteCount(4096)))
        }
        try vm.tdxFinalize()
        expectErrno(.invalidArgument) { try vm.tdxFinalize() }
        expectErrno(.invalidArgument) {
            try vcpu.tdxInitializeMemory(
                from: page.bytes, at: GuestPhysicalAddress(0), measured: true, progress: { _ in })
        }
        expectErrno(.invalidArgument) { _ = try vcpu.registers() }
        vm.close()
        #expect(!vm.inspection.isDestroyed)
        expectErrno(.badFileDescriptor) { try vm.tdxFinalize() }
        vcpu.close()
        #expect(vm.inspection.isDestroyed && vm.inspection.bug == nil)
        #expect(system.freeKeyIDs == 1 && system.framesInUse.controlPages == 0)
    }

    @Test(arguments: TestHost.available)
    func `INIT_VM refuses what the capabilities do not allow and leaves the VM usable`(host: TestHost) throws {
        let system = try EmulatedKVMSystem(EmulatorConfiguration(host: host.host, memory: .gibibytes(4)))
        let vm = try system.createTrustDomainVM()
        let capabilities = try vm.tdxCapabilities()
        #expect(capabilities.supportedXFAM & 3 == 3)
        expectErrno(.invalidArgument) { try vm.tdxInitialize(TestTD.parameters { $0.attributes = 1 }) }
        expectErrno(.invalidArgument) { try vm.tdxInitialize(TestTD.parameters { $0.xfam = 1 << 40 | 3 }) }
        expectErrno(.invalidArgument) { try vm.tdxInitialize(TestTD.parameters { $0.cpuid = [] }) }
        expectErrno(.invalidArgument) {
            try vm.tdxInitialize(TestTD.parameters { $0.cpuid[0].eax = 50 << 16 })
        }
        expectErrno(.invalidArgument) {
            try vm.tdxInitialize(TestTD.parameters { $0.cpuid.append(CPUIDEntry(function: 0x1234)) })
        }
        expectErrno(.argListTooLong) {
            try vm.tdxInitialize(
                TestTD.parameters { $0.cpuid += Array(repeating: CPUIDEntry(function: 1), count: 256) })
        }
        // The kernel counts the entries that it could place: one that comes twice, and one without the flag of a sub-leaf, which
        // several leaves take, make the count differ.
        expectErrno(.invalidArgument) {
            try vm.tdxInitialize(TestTD.parameters { $0.cpuid += Array(repeating: CPUIDEntry(function: 1), count: 2) })
        }
        expectErrno(.invalidArgument) {
            try vm.tdxInitialize(TestTD.parameters { $0.cpuid.append(CPUIDEntry(function: 4)) })
        }
        #expect(system.freeKeyIDs == 1 && system.framesInUse.controlPages == 0)
        // KVM adds what the module wants of every TD: x87 and SSE. A host with protection keys has them in XFAM.
        #expect(capabilities.supportedXFAM & 1 << 9 != 0)
        #expect(capabilities.tdvmcalls == TDVMCallSupport(userR11: 2))
        #expect(capabilities.configurableCPUID.allSatisfy { $0.flags == 0 })
        try vm.tdxInitialize(
            TestTD.parameters {
                $0.xfam = 0
                $0.cpuid.append(CPUIDEntry(function: 4, index: 1, flags: 1))
            })
        #expect(system.freeKeyIDs == 0)
        vm.close()
        #expect(vm.inspection.bug == nil && system.freeKeyIDs == 1 && system.framesInUse.controlPages == 0)
    }

    @Test func `GET_CPUID tells whole leaves and what was configured, between INIT_VM and FINALIZE_VM`() throws {
        let chosen = [
            CPUIDEntry(function: 0x1, eax: 0x8_06F8, ecx: 0x0100_0000),
            CPUIDEntry(function: 0x4, index: 3, flags: 1, eax: 0x0400_4000, ebx: 0x1000, ecx: 7),
            CPUIDEntry(function: 0x8000_0008, eax: 52 << 16),
        ]
        let td = try TestTD(.memfd, parameters: TestTD.parameters { $0.cpuid = chosen })
        let capabilities = try td.vm.tdxCapabilities()
        let seen = try td.vcpus[0].tdxCPUID()
        // Whole leaves, from the first of either range to its last.
        #expect(seen.first?.function == 0 && seen.contains { $0.function == 0x8000_0000 })
        #expect(TrustDomainCPUID.hasX2APIC(seen))
        for leaf in capabilities.configurableCPUID where leaf.function != 0x23 {
            #expect(seen.contains { $0.function == leaf.function && $0.index == leaf.index }, "leaf \(leaf.function)")
        }
        // Bits that take any value are as chosen; the others are the processor's, without those that were left out.
        let cache = seen.first { $0.function == 4 && $0.index == 3 }
        #expect(cache?.eax == 0x0400_4000 && cache?.ebx == 0x103F && cache?.ecx == 7)
        let version = seen.first { $0.function == 1 }
        #expect(version?.eax == 0x8_06F8 && (version?.ecx ?? 0) & 0x3104_4D88 == 0x0100_0000)
        #expect((seen.first { $0.function == 7 && $0.index == 0 }?.ebx ?? .max) & 0xDC2B_9B18 == 0)
        #expect(seen.first { $0.function == 0x8000_0008 }?.eax == 0x34_3034)
        #expect(seen.count <= 256 && td.vm.inspection.seamcalls["TDH.MNG.RD"] ?? 0 >= UInt64(2 * seen.count))
        try td.vm.tdxFinalize()
        expectErrno(.invalidArgument) { _ = try td.vcpus[0].tdxCPUID() }
        td.close()
        td.expectNothingLeft()
    }

    @Test func `Finalizing a TD without vCPUs is a KVM_BUG_ON`() throws {
        let system = try EmulatedKVMSystem(host: .memfd)
        let vm = try system.createTrustDomainVM()
        try vm.tdxInitialize(TestTD.parameters())
        do {
            try vm.tdxFinalize()
            Issue.record("a TD without vCPUs was finalized")
        } catch {
            #expect(error.errno == .ioError && error.status == .noVCPUs, "\(error)")
        }
        #expect(vm.bug?.status == .noVCPUs)
        expectErrno(.ioError) { _ = try vm.check(.maximumVCPUs) }
        vm.close()
        #expect(vm.inspection.isDestroyed && system.freeKeyIDs == 1)
    }

    @Test(arguments: [TerminateSupport.absent, .announced, .unannounced, .busy(times: 1)])
    func `The probe for TERMINATE_VM finds what there is without one SEAMCALL`(support: TerminateSupport) throws {
        let system = try EmulatedKVMSystem(
            EmulatorConfiguration(host: .memfd, terminate: support, memory: .gibibytes(4)))
        let calls = SharedList()
        system.record { calls.append($0) }
        let before = calls.count
        let found = HostProbe.probe(system).terminate
        #expect(found.value == (support == .absent ? .absent : .supported), "\(found.evidence)")
        #expect(calls.count == before, "a SEAMCALL can fail, and then the kernel warns")
        #expect(system.freeKeyIDs == 1)
    }

    @Test func `A CPUID bit that is not open is refused by the module with its status`() throws {
        let system = try EmulatedKVMSystem(host: .memfd)
        let vm = try system.createTrustDomainVM()
        for leaf in try vm.tdxCapabilities().configurableCPUID where ~leaf.edx != 0 {
            do {
                try vm.tdxInitialize(
                    TestTD.parameters {
                        var entry = leaf
                        // A leaf of sub-leaves is placed by the flag alone.
                        entry.flags = 1
                        entry.eax = 0
                        entry.ebx = 0
                        entry.ecx = 0
                        entry.edx = ~leaf.edx
                        if leaf.function == 7 { entry.ebx = 0 }
                        if leaf.function == 0x8000_0008 { $0.cpuid[0].edx = entry.edx } else { $0.cpuid.append(entry) }
                    })
                Issue.record("leaf \(leaf.function).\(leaf.index) took every bit")
            } catch {
                #expect(error.errno == .invalidArgument && error.status?.rawValue == 0xC000_0100_0000_0045, "\(error)")
            }
        }
        vm.close()
    }

    @Test(arguments: TestHost.available)
    func `X8 a page is added once, where it is private and has guest memory`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.add(Self.zeroPage, at: 0)
        expectErrno(.ioError) { try td.add(Self.zeroPage, at: 0) }
        expectErrno(.invalidArgument) { try td.add(Self.zeroPage, at: 8 << 20) }
        try td.vm.setMemoryAttributes(td.range(0x1000, 0x1000), isPrivate: false)
        expectErrno(.invalidArgument) { try td.add(Self.zeroPage, at: 0x1000) }
        expectErrno(.invalidArgument) { try td.add(Self.zeroPage, at: 0x800) }
        expectErrno(.invalidArgument) { try td.add(Self.zeroPage, at: 1 << 47) }
        expectErrno(.invalidArgument) { try td.add([], at: 0x2000) }
        // What was added before a failure stays.
        expectErrno(.invalidArgument) {
            try td.add([UInt8](repeating: 9, count: 8192), at: td.size.rawValue - 4096)
        }
        #expect(td.vm.inspection.privatePages == PageCount(2))
        td.close()
        td.expectNothingLeft()
    }

    @Test func `A TD has the frequency that its VM was given, in units of 25 MHz, or the host's own`() throws {
        for (kilohertz, allowed) in [
            (0, true), (100_000, true), (2_049_999, true), (99_999, false), (10_000_000, true),
            (10_025_000, false),
        ] as [(UInt32, Bool)] {
            let vm = try EmulatedKVMSystem(host: .memfd).createTrustDomainVM()
            try vm.setTSCFrequency(kilohertz: kilohertz)
            if allowed {
                try vm.tdxInitialize(TestTD.parameters())
                try vm.enable(.splitIRQChip, [24])
                let vcpu = try vm.createVCPU(id: 0)
                expectErrno(.invalidArgument) { try vm.setTSCFrequency(kilohertz: 0) }
                vcpu.close()
            } else {
                expectErrno(.invalidArgument) { try vm.tdxInitialize(TestTD.parameters()) }
            }
            vm.close()
        }
    }

    @Test func `The VM's own capabilities are those of a TDX VM, and a VMM's usual ones can be enabled`() throws {
        let system = try EmulatedKVMSystem(host: .memfd)
        let vm = try system.createTrustDomainVM()
        #expect(try vm.check(.vmTypes) == 0x21)
        #expect(try vm.check(KVMCapability(rawValue: 81)) == 0, "no read-only memory")
        #expect(try vm.check(KVMCapability(rawValue: 118)) == 1, "one address space")
        #expect(try vm.check(KVMCapability(rawValue: 25)) == 4096)
        for (number, argument) in [(116, 1), (129, 3), (168, 3), (188, 4), (213, 2), (164, 1), (218, 1)]
            as [(UInt32, UInt64)]
        {
            try vm.enable(KVMCapability(rawValue: number), [argument])
        }
        expectErrno(.invalidArgument) { try vm.enable(KVMCapability(rawValue: 129), [4]) }
        expectErrno(.invalidArgument) { try vm.enable(KVMCapability(rawValue: 9999), [0]) }
        expectErrno(.noSuchAddressOrDevice) { try vm.enable(.apicBusCycles, [40]) }
        try vm.enable(.splitIRQChip, [24])
        try vm.enable(.apicBusCycles, [40])
        try vm.enable(.maximumVCPUID, [2])
        expectErrno(.invalidArgument) { try vm.enable(.maximumVCPUID, [3]) }
        try vm.tdxInitialize(TestTD.parameters())
        expectErrno(.invalidArgument) { _ = try vm.createVCPU(id: 2) }
        vm.close()
        let kernel = try #require(TestHost.kernel, "no /dev/kvm")
        let above = try EmulatedKVMSystem(host: .guestMemfd(kernel)).createTrustDomainVM()
        #expect(try above.check(.vmTypes) == kernel.check(.vmTypes) | 0x20)
        above.close()
    }

    @Test(arguments: TestHost.available)
    func `X9 the last key id is refused with ENOSPC and comes back at destruction only`(host: TestHost) throws {
        let system = try EmulatedKVMSystem(
            EmulatorConfiguration(host: host.host, keyIDs: [KeyID(40), KeyID(41)], memory: .gibibytes(4)))
        let machines = try (0..<3).map { _ in try system.createTrustDomainVM() }
        try machines[0].tdxInitialize(TestTD.parameters())
        try machines[1].tdxInitialize(TestTD.parameters())
        #expect(machines.map(\.inspection.keyID) == [KeyID(40), KeyID(41), nil])
        expectErrno(.noSpace) { try machines[2].tdxInitialize(TestTD.parameters()) }
        let memory = try machines[0].createGuestMemory(size: .mebibytes(2), flags: [])
        machines[0].close()
        expectErrno(.noSpace) { try machines[2].tdxInitialize(TestTD.parameters()) }
        memory.close()
        try machines[2].tdxInitialize(TestTD.parameters())
        #expect(machines[2].inspection.keyID == KeyID(40))
        machines.forEach { $0.close() }
        #expect(system.freeKeyIDs == 2 && system.framesInUse.controlPages == 0)
    }

    @Test(arguments: TestHost.available)
    func `X9 the misc limit is refused with EBUSY once: the refusal takes a charge back that was never made`(
        host: TestHost
    ) throws {
        let system = try EmulatedKVMSystem(
            EmulatorConfiguration(
                host: host.host, keyIDs: [KeyID(40), KeyID(41)], keyIDLimit: 1, memory: .gibibytes(4)))
        let first = try system.createTrustDomainVM()
        let second = try system.createTrustDomainVM()
        try first.tdxInitialize(TestTD.parameters())
        expectErrno(.resourceBusy) { try second.tdxInitialize(TestTD.parameters()) }
        try second.tdxInitialize(TestTD.parameters())
        #expect(system.freeKeyIDs == 0)
        first.close()
        second.close()
        #expect(system.freeKeyIDs == 2)
    }

    @Test func `Destruction makes the calls of a teardown in their order and number`() throws {
        let td = try TestTD(.memfd, vcpus: 2, configure: { $0.packages = 2 })
        try td.add([UInt8](repeating: 1, count: 3 * 4096), at: 0)
        try td.vm.tdxFinalize()
        td.close()
        td.expectNothingLeft()
        let calls = td.vm.inspection.seamcalls
        #expect(calls["TDH.MNG.CREATE"] == 1)
        #expect(calls["TDH.MNG.KEY.CONFIG"] == 2)
        #expect(calls["TDH.MNG.ADDCX"] == 6)
        #expect(calls["TDH.VP.ADDCX"] == 10)
        #expect(calls["TDH.MEM.SEPT.ADD"] == 3)
        #expect(calls["TDH.MEM.PAGE.ADD"] == 3)
        #expect(calls["TDH.MR.EXTEND"] == 48)
        #expect(calls["TDH.MEM.RANGE.BLOCK"] == 3)
        #expect(calls["TDH.MEM.TRACK"] == 3)
        #expect(calls["TDH.MEM.PAGE.REMOVE"] == 3)
        #expect(calls["TDH.VP.FLUSH"] == 2)
        #expect(calls["TDH.MNG.VPFLUSHDONE"] == 1)
        #expect(calls["TDH.PHYMEM.CACHE.WB"] == 2)
        #expect(calls["TDH.MNG.KEY.FREEID"] == 1)
        // Control pages: TDR, 6 TDCX, 2 × (TDVPR, 5 TDCX), 3 Secure-EPT tables.
        #expect(calls["TDH.PHYMEM.PAGE.RECLAIM"] == 22)
        // Three removed pages and the TDR.
        #expect(calls["TDH.PHYMEM.PAGE.WBINVD"] == 4)
    }

    @Test(arguments: TestHost.available)
    func `X10 terminating first makes every page leave by one reclaim`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.add([UInt8](repeating: 1, count: 5 * 4096), at: 0)
        try td.vm.tdxFinalize()
        #expect(try td.vm.tdxCapabilities().supportedCommands == 1)
        try td.vm.tdxTerminate()
        #expect(td.system.freeKeyIDs == 1)
        expectErrno(.ioError) { try td.vm.setMemoryAttributes(td.whole, isPrivate: false) }
        expectErrno(.ioError) { _ = try td.vcpus[0].run() }
        expectErrno(.ioError) { try td.vm.tdxTerminate() }
        #expect(td.vm.inspection.privatePages == PageCount(5))
        try td.memory.punchHole(td.wholeFile)
        try td.expectResident(.zero)
        #expect(td.vm.inspection.privatePages == .zero)
        td.close()
        td.expectNothingLeft()
        #expect(td.vm.inspection.seamcalls["TDH.MEM.RANGE.BLOCK"] == nil)
        #expect(td.vm.inspection.seamcalls["TDH.PHYMEM.PAGE.RECLAIM"] == 1 + 6 + 6 + 3 + 5)
    }

    @Test func `X10 a kernel without TERMINATE_VM answers EINVAL and announces nothing`() throws {
        let td = try TestTD(.memfd, configure: { $0.terminate = .absent })
        #expect(try td.vm.tdxCapabilities().supportedCommands == 0)
        expectErrno(.invalidArgument) { try td.vm.tdxTerminate() }
        try td.add(Self.zeroPage, at: 0)
        td.close()
        td.expectNothingLeft()
    }

    @Test func `X10 TERMINATE_VM works unannounced, and after the answers EBUSY that were asked for`() throws {
        let quiet = try TestTD(.memfd, configure: { $0.terminate = .unannounced })
        #expect(try quiet.vm.tdxCapabilities().supportedCommands == 0)
        try quiet.vm.tdxTerminate()
        quiet.close()
        quiet.expectNothingLeft()

        let busy = try TestTD(.memfd, configure: { $0.terminate = .busy(times: 3) })
        #expect(try busy.vm.tdxCapabilities().supportedCommands == 1)
        expectErrno(.resourceBusy) { try busy.vm.tdxTerminate() }
        expectErrno(.resourceBusy) { try busy.vm.tdxTerminate() }
        expectErrno(.resourceBusy) { try busy.vm.tdxTerminate() }
        try busy.vm.tdxTerminate()
        busy.close()
        busy.expectNothingLeft()
    }

    @Test func `Dropping every object closes what was left open`() throws {
        var td: TestTD? = try TestTD(.memfd)
        try td!.add(Self.zeroPage, at: 0)
        let system = td!.system
        td = nil
        #expect(system.freeKeyIDs == 1)
        #expect(system.framesInUse == (0, 0))
    }
}
