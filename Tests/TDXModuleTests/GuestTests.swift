import MemoryUnits
@_spi(Testing) import TDXModule
import TDXStatusCodes
import Testing

@Suite struct `The guest's side` {
    func prepared(_ change: (inout [UInt8]) -> Void = { _ in }) throws -> (Host, UInt64, UInt64) {
        let host = try Host()
        let tdr = try host.makeTD(change)
        let tdvpr = try host.makeVCPU(tdr)
        try host.makeTables(tdr, 0)
        try host.must(.mrFinalize, rcx: tdr)
        return (host, tdr, tdvpr)
    }

    func acceptExit(_ gpa: UInt64, _ level: UInt8, at entry: UInt8, _ state: UInt8, leaf: Bool) -> TDCallOutcome {
        .exit(
            .eptViolation(
                gpa: GuestPhysicalAddress(gpa), qualification: 2,
                extended: ExtendedQualification(
                    kind: .accept, requestedLevel: level, entryLevel: entry, entryState: state, isLeaf: leaf)))
    }

    @Test func `accepting takes a page, and the second time only informs`() throws {
        let (host, tdr, tdvpr) = try prepared()
        let page = host.page()
        try host.must(.memPageAug, rcx: 0, rdx: tdr, r8: page)
        #expect(host.accept(tdvpr, 0) == .notInside)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0) == .completed(.success))
        #expect(host.accept(tdvpr, 0) == .completed(TDXStatus(0x0000_0B0A_0000_0000)))
        #expect(host.accept(tdvpr, 0x1000) == acceptExit(0x1000, 0, at: 0, 0, leaf: false))
        #expect(host.accept(tdvpr, 0x8) == .completed(.operandInvalid.with(.rcx)))
        #expect(host.accept(tdvpr, 1 << 47) == .completed(.operandInvalid.with(.rcx)))
        host.exit(tdvpr)
        try host.must(.memRangeBlock, rcx: 0, rdx: tdr)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0) == acceptExit(0, 0, at: 0, 1, leaf: true))
        host.exit(tdvpr)
    }

    @Test func `sizes that differ lead to a smaller accept or a TD exit`() throws {
        let (host, tdr, tdvpr) = try prepared()
        try host.must(.memPageAug, rcx: 0x1000, rdx: tdr, r8: host.page())
        try host.must(.memPageAug, rcx: 0x20_0001, rdx: tdr, r8: host.large())
        #expect(host.enter(tdvpr) == .success)
        // The host mapped 4 KiB, the guest asks for 2 MiB.
        #expect(host.accept(tdvpr, 0x0000_0001) == .completed(TDXStatus(0xC000_0B0B_0000_0001)))
        // The host mapped 2 MiB, the guest asks for 4 KiB: the host must demote.
        let outcome = host.accept(tdvpr, 0x20_3000)
        #expect(outcome == acceptExit(0x20_3000, 0, at: 1, 2, leaf: true))
        guard case .exit(let exit) = outcome else { return }
        #expect(host.exit(tdvpr, exit) == TDXStatus(48))
        #expect(host.registers.rcx == 2 && host.registers.r8 == 0x20_3000)
        #expect(host.registers.rdx == 1 | (0 | 1 << 3 | 2 << 6 | 1 << 14) << 32)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0x20_0001) == .completed(.success))
        #expect(host.accept(tdvpr, 0x20_3000) == .completed(TDXStatus(0x0000_0B0A_0000_0001)))
        host.exit(tdvpr)
    }

    @Test func `an interrupt while accepting 2 MiB keeps the chunks that are done`() throws {
        let (host, tdr, tdvpr) = try prepared()
        let large = host.large()
        try host.must(.memPageAug, rcx: 0x20_0001, rdx: tdr, r8: large)
        #expect(host.enter(tdvpr) == .success)
        host.module.faults.arm(.interrupt, skipping: 4)
        #expect(host.accept(tdvpr, 0x20_0001) == .exit(.externalInterrupt))
        #expect(host.registers.rcx == 0x20_0001)
        #expect(host.entry(0x20_0000, tdr, level: 1).acceptedChunks == 5)
        #expect(
            host.module.rawEntry(GuestPhysicalAddress(0x20_0000), level: 1, of: HostPhysicalAddress(tdr))
                == 0x8100_0000_0000_50F0 | large)
        #expect(host.accept(tdvpr, 0x20_0001) == .completed(.success))
        #expect(host.entry(0x20_0000, tdr, level: 1).state == .mapped)
        #expect(host.entry(0x20_0000, tdr, level: 1).address == HostPhysicalAddress(large))
        host.exit(tdvpr)
    }

    @Test func `accepting gives zeros, whatever the host left there`() throws {
        let (host, tdr, tdvpr) = try prepared()
        let page = host.page()
        let key = host.state(tdr).keyID
        [UInt8](repeating: 0xAB, count: 4096).withUnsafeBytes {
            host.memory.write(HostPhysicalAddress(page), key: key, from: $0)
        }
        try host.must(.memPageAug, rcx: 0, rdx: tdr, r8: page)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0) == .completed(.success))
        var bytes = [UInt8](repeating: 1, count: 4096)
        bytes.withUnsafeMutableBytes { host.memory.read(HostPhysicalAddress(page), key: key, into: $0) }
        #expect(bytes.allSatisfy { $0 == 0 })
        host.exit(tdvpr)
    }

    @Test func `a touch of what is pending raises #VE or exits, as the trust domain chose`() throws {
        for disablesVE in [false, true] {
            let (host, tdr, tdvpr) = try prepared { $0[3] = disablesVE ? 0x10 : 0 }
            let vcpu = HostPhysicalAddress(tdvpr)
            let page = host.page()
            try host.must(.memPageAug, rcx: 0x5000, rdx: tdr, r8: page)
            #expect(host.enter(tdvpr) == .success)
            let outcome = host.module.access(GuestPhysicalAddress(0x5008), write: true, vcpu: vcpu)
            if disablesVE {
                #expect(
                    outcome
                        == .exit(
                            .eptViolation(
                                gpa: GuestPhysicalAddress(0x5000), qualification: 2,
                                extended: ExtendedQualification(kind: .pendingViolation))))
            } else {
                #expect(outcome == .virtualizationException)
                #expect(host.guest(tdvpr, .vpVeinfoGet) == .completed(.success))
                #expect(host.registers.rcx == 48 && host.registers.r9 == 0x5008)
                #expect(host.guest(tdvpr, .vpVeinfoGet) == .completed(.noValidVEInfo))
            }
            #expect(host.module.access(GuestPhysicalAddress(1 << 47 | 0x5000), vcpu: vcpu) == .shared)
            guard
                case .exit(.eptViolation(let gpa, _, let extended)) =
                    host.module.access(GuestPhysicalAddress(0x7123), vcpu: vcpu)
            else {
                Issue.record("no exit")
                return
            }
            #expect(gpa.rawValue == 0x7000 && extended.kind == .none)
            host.exit(tdvpr)
        }
    }

    @Test func `VMCALL passes what its mask names and gets the host's answer`() throws {
        let (host, _, tdvpr) = try prepared()
        #expect(host.enter(tdvpr) == .success)
        for bad: UInt64 in [1, 2, 1 << 4, 1 << 32] {
            #expect(host.guest(tdvpr, .vpVmcall, rcx: bad) == .completed(.operandInvalid.with(.rcx)))
        }
        var guest = Registers(.vpVmcall, rcx: 0xFC00)
        guest.r10 = 0
        guest.r11 = 0x10001
        guest.r12 = 0x4000
        guest.rbx = 77
        guard case .exit(let exit) = host.module.tdcall(&guest, vcpu: HostPhysicalAddress(tdvpr)) else {
            Issue.record("no exit")
            return
        }
        host.registers = Registers(rbx: 5)
        #expect(host.exit(tdvpr, exit) == TDXStatus(77))
        #expect(host.registers.rcx == 0xFC00 && host.registers.r11 == 0x10001 && host.registers.r12 == 0x4000)
        // What the mask does not name is 0.
        #expect(host.registers.rbx == 0)
        host.registers.rax = 0
        host.registers.rcx = tdvpr
        host.registers.r10 = 1
        host.registers.r11 = 0x2000
        #expect(host.module.enter(&host.registers, on: LogicalProcessorID(0)) == .success)
        let answer = try #require(host.module.takeAnswer(vcpu: HostPhysicalAddress(tdvpr)))
        #expect(answer.rax == 0 && answer.rcx == 0xFC00 && answer.r10 == 1 && answer.r11 == 0x2000 && answer.rbx == 77)
        #expect(host.module.takeAnswer(vcpu: HostPhysicalAddress(tdvpr)) == nil)
        host.exit(tdvpr)
    }

    @Test func `a report is laid out as documented and vouched for by this module alone`() throws {
        let (host, tdr, tdvpr) = try prepared { bytes in
            for index in 0..<48 { bytes[80 + index] = 0xC1 }
            for index in 0..<48 { bytes[128 + index] = 0xC2 }
            for index in 0..<48 { bytes[176 + index] = 0xC3 }
        }
        let page = host.page()
        let key = host.state(tdr).keyID
        try host.must(.memPageAug, rcx: 0, rdx: tdr, r8: page)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0) == .completed(.success))
        [UInt8](repeating: 0x5A, count: 64).withUnsafeBytes {
            host.memory.write(HostPhysicalAddress(page + 0xC00), key: key, from: $0)
        }
        #expect(host.guest(tdvpr, .mrReport, rcx: 0x10, rdx: 0xC00) == .completed(.operandInvalid.with(.rcx)))
        #expect(host.guest(tdvpr, .mrReport, rcx: 0, rdx: 0xC01) == .completed(.operandInvalid.with(.rdx)))
        #expect(host.guest(tdvpr, .mrReport, rcx: 0, rdx: 0xC00, r8: 1) == .completed(.operandInvalid.with(.r8)))
        #expect(host.guest(tdvpr, .mrReport, rcx: 0x400, rdx: 0xC00) == .completed(.success))
        var report = [UInt8](repeating: 0, count: 1024)
        report.withUnsafeMutableBytes { host.memory.read(HostPhysicalAddress(page + 0x400), key: key, into: $0) }
        #expect(report[0] == 0x81)
        #expect(Array(report[128..<192]) == [UInt8](repeating: 0x5A, count: 64))
        let info = Array(report[512...])
        #expect(info[3] == 0x10 && info[8] == 3)
        #expect(Array(info[16..<64]) == host.state(tdr).mrtd)
        #expect(info[64] == 0xC1 && info[112] == 0xC2 && info[160] == 0xC3 && info[207] == 0xC3 && info[208] == 0)
        #expect(host.module.isOwnReport(report))
        report[600] ^= 1
        #expect(!host.module.isOwnReport(report))
        let other = try TDXModule(platform: host.platform, memory: host.memory, seed: 2)
        report[600] ^= 1
        #expect(!other.isOwnReport(report))
        host.exit(tdvpr)
    }

    @Test func `attributes are readable and can only be 0`() throws {
        let (host, tdr, tdvpr) = try prepared()
        try host.must(.memPageAug, rcx: 0x3000, rdx: tdr, r8: host.page())
        #expect(host.enter(tdvpr) == .success)
        #expect(host.guest(tdvpr, .memPageAttrRd, rcx: 0x3000) == .completed(.success))
        #expect(host.registers.rcx == 0x3000 | 1 << 62 && host.registers.rdx == 0)
        #expect(host.accept(tdvpr, 0x3000) == .completed(.success))
        #expect(host.guest(tdvpr, .memPageAttrRd, rcx: 0x3000) == .completed(.success))
        #expect(host.registers.rcx == 0x3000)
        #expect(host.guest(tdvpr, .memPageAttrWr, rcx: 0x3000, rdx: 1) == .completed(.operandInvalid.with(.rdx)))
        #expect(host.guest(tdvpr, .memPageAttrWr, rcx: 1) == .completed(.pageSizeMismatch.with(details: 1)))
        #expect(host.guest(tdvpr, .memPageAttrWr, rcx: 0x3000) == .completed(.success))
        guard case .exit(.eptViolation(_, _, let extended)) = host.guest(tdvpr, .memPageAttrWr, rcx: 0x4000) else {
            Issue.record("no exit")
            return
        }
        #expect(extended.kind == .attributeWrite)
        host.exit(tdvpr)
    }

    @Test func `a guest that keeps meeting host priority leaves after its time-out`() throws {
        let (host, tdr, tdvpr) = try prepared()
        try host.must(.memPageAug, rcx: 0, rdx: tdr, r8: host.page())
        let root = HostPhysicalAddress(tdr)
        let gpa = GuestPhysicalAddress(0)
        #expect(host.enter(tdvpr) == .success)
        host.module.setEntryLock(true, at: gpa, level: 0, of: root)
        #expect(host.call(.memRangeBlock, rcx: 0, rdx: tdr) == .operandBusy.with(.rcx))
        host.module.setEntryLock(false, at: gpa, level: 0, of: root)
        // Unlocked, but the host comes first.
        host.module.faults.setClock(nanoseconds: 1_000)
        #expect(host.accept(tdvpr, 0) == .completed(.operandBusy.with(.rcx)))
        host.module.faults.setClock(nanoseconds: 1_000_001_000)
        #expect(host.accept(tdvpr, 0) == .completed(.operandBusy.with(.rcx)))
        host.module.faults.setClock(nanoseconds: 1_000_001_001)
        #expect(host.accept(tdvpr, 0) == .exit(.hostPriorityTimeout))
        #expect(host.exit(tdvpr, .hostPriorityTimeout)?.rawValue == 0x9000_0205_0000_0000)
        // The last exit was a trap: the host may say that it recovered.
        #expect(host.enter(tdvpr | 1 << 52) == .success)
        host.exit(tdvpr)
        #expect(host.enter(tdvpr | 1 << 52) == .operandInvalid.with(.rcx))
        try host.must(.memRangeBlock, rcx: 0, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        try host.must(.memRangeUnblock, rcx: 0, rdx: tdr)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0) == .completed(.success))
        host.exit(tdvpr)
    }

    @Test func `a machine check makes the trust domain fatal, and it can still be torn down`() throws {
        let (host, tdr, tdvpr) = try prepared()
        let page = host.page()
        try host.must(.memPageAug, rcx: 0, rdx: tdr, r8: page)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0) == .completed(.success))
        host.module.faults.poison(HostPhysicalAddress(page + 128))
        #expect(
            host.module.access(GuestPhysicalAddress(64), vcpu: HostPhysicalAddress(tdvpr))
                == .memory(HostPhysicalAddress(page + 64), key: host.state(tdr).keyID))
        let outcome = host.module.access(GuestPhysicalAddress(130), vcpu: HostPhysicalAddress(tdvpr))
        #expect(outcome == .exit(.machineCheck))
        #expect(host.exit(tdvpr, .machineCheck) == TDXStatus(0x6000_0005_0000_0029))
        #expect(host.enter(tdvpr).rawValue == 0xE000_0604_0000_0000)
        #expect(host.call(.memTrack, rcx: tdr).rawValue == 0xE000_0604_0000_0000)
        try host.tearDown(tdr, vcpus: [tdvpr])
    }
}
