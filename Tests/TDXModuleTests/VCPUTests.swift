import MemoryUnits
import TDXModule
import TDXStatusCodes
import Testing

@Suite struct `A vCPU` {
    @Test func `is built in order, page by page`() throws {
        let host = try Host()
        let tdr = try host.makeTD { $0[16] = 1 }
        let tdvpr = host.page()
        #expect(host.call(.vpCreate, rcx: tdr, rdx: tdr) == .operandBusy.with(.rcx))
        try host.must(.vpCreate, rcx: tdvpr, rdx: tdr)
        #expect(host.call(.vpInit, rcx: tdvpr, rdx: 0) == .tdcxNumIncorrect)
        #expect(host.enter(tdvpr) == .opStateIncorrect)
        for _ in 0..<5 { try host.must(.vpAddcx, rcx: host.page(), rdx: tdvpr) }
        #expect(host.call(.vpInit, version: 1, rcx: tdvpr) == .operandInvalid.with(.rax))
        try host.must(.vpInit, rcx: tdvpr, rdx: 0)
        #expect(host.call(.vpInit, rcx: tdvpr, rdx: 0) == .vcpuStateIncorrect)
        #expect(host.call(.vpAddcx, rcx: host.page(), rdx: tdvpr) == .vcpuStateIncorrect)
        let second = host.page()
        try host.must(.vpCreate, rcx: second, rdx: tdr)
        for _ in 0..<14 { try host.must(.vpAddcx, rcx: host.page(), rdx: second) }
        #expect(host.call(.vpAddcx, rcx: host.page(), rdx: second) == .tdcxNumIncorrect)
        #expect(host.call(.vpInit, rcx: second, rdx: 0) == .maxVCPUsExceeded)
        #expect(host.state(tdr).vcpus == 1 && host.state(tdr).associatedVCPUs == 1)
    }

    @Test func `belongs to the processor where it last ran`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        #expect(host.enter(tdvpr, on: LogicalProcessorID(1)) == .vcpuAssociated)
        host.processor = LogicalProcessorID(1)
        #expect(host.call(.vpFlush, rcx: tdvpr) == .vcpuNotAssociated)
        host.processor = LogicalProcessorID(0)
        #expect(host.call(.mngVpflushdone, rcx: tdr).rawValue == 0x8000_0824_0000_0000)
        try host.must(.vpFlush, rcx: tdvpr)
        #expect(host.call(.vpFlush, rcx: tdvpr) == .vcpuNotAssociated)
        #expect(host.enter(tdvpr, on: LogicalProcessorID(1)) == .success)
        // Inside: both root pages are held shared.
        #expect(host.call(.vpFlush, rcx: tdvpr) == .operandBusy.with(.rcx))
        #expect(host.call(.mngVpflushdone, rcx: tdr) == .operandBusy.with(.rcx))
        #expect(host.enter(tdvpr, on: LogicalProcessorID(1)) == .vcpuStateIncorrect)
        #expect(host.exit(tdvpr, .halt) == TDXStatus(12))
        #expect(host.exit(tdvpr) == nil)
    }

    @Test func `that fails for good is disabled, and a trust domain likewise fatal`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        #expect(host.enter(tdvpr) == .success)
        #expect(host.exit(tdvpr, .nonRecoverableVCPU(reason: 2))?.rawValue == 0x4000_0001_0000_0002)
        #expect(host.enter(tdvpr) == .vcpuStateIncorrect)
        let (other, vcpu) = try host.makeRunnable()
        #expect(host.enter(vcpu) == .success)
        #expect(host.exit(vcpu, .nonRecoverableTD(reason: 2))?.rawValue == 0x6000_0002_0000_0002)
        #expect(host.state(other).isFatal && !host.state(tdr).isFatal)
        #expect(host.call(.mngAddcx, rcx: host.page(), rdx: other) == .tdFatal)
        try host.tearDown(other, vcpus: [vcpu])
        try host.tearDown(tdr, vcpus: [tdvpr])
    }

    @Test func `VP.ENTER as one call comes back with an interrupt`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        #expect(host.call(.vpEnter, rcx: tdvpr) == TDXStatus(1))
        #expect(host.state(tdr).insideOdd == 0 && host.state(tdr).associatedVCPUs == 1)
        #expect(host.call(.vpEnter, rcx: tdvpr | 1) == .operandInvalid.with(.rcx))
        #expect(host.call(.vpEnter, rcx: tdr) == .pageMetadataIncorrect.with(.rcx))
        host.module.faults.arm(.tscRollback)
        #expect(host.call(.vpEnter, rcx: tdvpr) == .tscRollback)
        host.module.faults.arm(.cpuidLimit)
        #expect(host.call(.vpEnter, rcx: tdvpr) == .limitCPUIDMaxvalSet)
        host.module.faults.arm(.tscAdjust)
        #expect(host.call(.vpEnter, rcx: tdvpr).rawValue == 0xC000_0920_0000_003B)
    }

    @Test func `[late] has an x2APIC id of its own`() throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(2), version: .late))
        let tdr = try host.makeTD()
        func create(_ id: UInt64) throws -> TDXStatus {
            let tdvpr = host.page()
            try host.must(.vpCreate, rcx: tdvpr, rdx: tdr)
            for _ in 0..<5 { try host.must(.vpAddcx, rcx: host.page(), rdx: tdvpr) }
            return host.call(.vpInit, version: 1, rcx: tdvpr, r8: id)
        }
        #expect(try create(7) == .success)
        #expect(try create(7).rawValue == 0xC000_0621_0000_0007)
        #expect(try create(1 << 32) == .operandInvalid.with(.r8))
        #expect(try create(8) == .success)
        #expect(host.state(tdr).vcpus == 2)
    }

    @Test func `TDG.VP.INFO tells what its trust domain was given`() throws {
        let host = try Host()
        let (_, tdvpr) = try host.makeRunnable()
        #expect(host.enter(tdvpr) == .success)
        #expect(host.guest(tdvpr, .vpInfo) == .completed(.success))
        #expect(host.registers.rcx == 48 && host.registers.rdx == 1 << 28)
        #expect(host.registers.r8 == 1 | 8 << 32 && host.registers.r9 == 0)
        var bad = Registers(rax: 1 << 16)
        #expect(host.module.tdcall(&bad, vcpu: HostPhysicalAddress(tdvpr)) == .completed(.operandInvalid.with(.rax)))
        host.exit(tdvpr)
    }
}
