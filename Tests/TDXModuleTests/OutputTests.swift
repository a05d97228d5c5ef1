import MemoryUnits
import TDXModule
import TDXStatusCodes
import Testing

/// Output registers on paths that fail, and checks in the order of release 1.5.01.
@Suite struct `Registers after a call` {
    @Test func `of SEPT.ADD version 1 name the pages that were not used`() throws {
        let host = try Host()
        let tdr = try host.makeTD()
        let mark: UInt64 = 1 << 63
        let page = host.page()
        func add(_ target: UInt64, _ r8: UInt64, _ r9: UInt64 = .max, version: UInt8 = 1, existing: UInt64 = 0)
            -> TDXStatus
        {
            host.call(
                .memSeptAdd, version: version, rcx: target, rdx: tdr | existing, r8: r8, r9: r9, r10: .max, r11: .max)
        }
        // The mark of an earlier answer is ignored on input, by both versions.
        #expect(add(3, page | mark) == .success)
        #expect(host.registers.r8 == .max && host.registers.r9 == .max && host.registers.r10 == .max)
        let second = host.page()
        #expect(add(2, second | mark, version: 0) == .success)
        #expect(host.registers.r8 == second | mark && host.registers.r9 == .max)
        // An existing table, wanted or not; the page comes back without and with the mark.
        let third = host.page()
        #expect(add(2, third | mark) == .eptEntryStateIncorrect.with(.rcx))
        #expect(host.registers.r8 == third && host.registers.rcx == 7 && host.registers.rdx == 2 | 132 << 8)
        #expect(add(2, third, existing: 1) == .success)
        #expect(host.registers.r8 == third | mark && host.registers.rcx == 0 && host.registers.rdx == 0)
        #expect(add(2, third, version: 0, existing: 1) == .success)
        #expect(host.registers.r8 == third)
        // No page for L1 at all.
        #expect(add(2, .max) == .success && host.registers.r8 == .max)
        // A nested machine's page, without its mark, after a check that failed.
        #expect(add(2, .max, third | mark) == .operandInvalid.with(.r9))
        #expect(host.registers.r8 == .max && host.registers.r9 == third)
        #expect(add(1 << 12, third | mark, 0x5000 | mark) == .operandInvalid.with(.rcx))
        #expect(host.registers.r8 == third && host.registers.r9 == 0x5000 && host.registers.rcx == 0)
        // An unknown version: RCX and RDX alone.
        #expect(add(2, third | mark, version: 2) == .operandInvalid.with(.rax))
        #expect(host.registers.r8 == third | mark && host.registers.rcx == 0 && host.registers.rdx == 0)
    }

    @Test(arguments: [SeamcallLeaf.memSeptRemove, .memPagePromote])
    func `of calls that give back tables name none after a failure`(leaf: SeamcallLeaf) throws {
        let host = try Host()
        let tdr = try host.makeTD()
        for version: UInt8 in 1...2 {
            let expected: TDXStatus = version == 2 ? .operandInvalid.with(.rax) : .operandInvalid.with(.rcx)
            #expect(host.call(leaf, version: version, rcx: 8, rdx: tdr, r8: 5, r9: 6, r10: 7, r11: 8) == expected)
            #expect(
                host.registers
                    == Registers(rax: expected.rawValue, r8: 5, r9: .max, r10: .max, r11: .max))
        }
        #expect(host.call(leaf, rcx: 8, rdx: tdr, r8: 5, r9: 6) == .operandInvalid.with(.rcx))
        #expect(host.registers.r9 == 6)
    }

    @Test func `of MEM.RD name the entry and hold no data`() throws {
        let host = try Host()
        let tdr = try host.makeTD { $0[0] = 1 }
        func read(_ gpa: UInt64) -> TDXStatus { host.call(.memRd, rcx: gpa, rdx: tdr, r8: 7) }
        #expect(read(1) == .operandInvalid.with(.rcx) && host.registers.r8 == 0)
        #expect(read(1 << 47) == .operandInvalid.with(.rcx))
        #expect(read(0x1000) == .eptEntryNotPresent.with(.rcx))
        #expect(host.registers.rcx == 1 << 63 && host.registers.rdx == 3 && host.registers.r8 == 0)
        try host.makeTables(tdr, 0x1000)
        try host.must(.memPageAug, rcx: 0x1000, rdx: tdr, r8: host.page())
        #expect(read(0x1008) == .eptEntryNotPresent.with(.rcx))
        #expect(host.registers.rdx == 2 << 8 && host.registers.r8 == 0)
        host.module.makeBusy(.septTree)
        #expect(read(1 << 47) == .operandBusy.with(.septTree))
        let nonDebug = try host.makeTD()
        #expect(host.call(.memWr, rcx: 0, rdx: nonDebug, r8: 7) == .tdNonDebug && host.registers.r8 == 0)
    }

    @Test func `of VP.ENTER's refusals are the host's, and the vCPU stays associated`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.must(.vpFlush, rcx: tdvpr)
        for flag: UInt64 in [1 << 52, 1 << 53] {
            #expect(host.call(.vpEnter, rcx: tdvpr | flag, rdx: 3) == .operandInvalid.with(.rcx))
            #expect(host.registers.rcx == tdvpr | flag && host.registers.rdx == 3)
            #expect(host.state(tdr).associatedVCPUs == 1)
            try host.must(.vpFlush, rcx: tdvpr)
        }
        host.module.faults.arm(.tscRollback)
        #expect(host.call(.vpEnter, rcx: tdvpr) == .tscRollback)
        #expect(host.call(.mngVpflushdone, rcx: tdr) == .flushvpNotDone)
    }

    @Test func `of TD exits are all zeros but those that the exit names`() throws {
        let host = try Host()
        let (_, tdvpr) = try host.makeRunnable()
        func leave(_ exit: TDExit) -> Registers {
            #expect(host.enter(tdvpr) == .success)
            host.registers = Registers(
                rcx: 1, rdx: 2, rbx: 3, rbp: 4, rsi: 5, rdi: 6, r8: 7, r9: 8, r10: 9, r11: 10, r12: 11, r13: 12,
                r14: 13,
                r15: 14)
            host.exit(tdvpr, exit)
            return host.registers
        }
        #expect(leave(.externalInterrupt) == Registers(rax: 1))
        #expect(leave(.halt) == Registers(rax: 12))
        let fault = TDExit.eptViolation(gpa: GuestPhysicalAddress(0x5123), qualification: 2, extended: .none)
        #expect(leave(fault) == Registers(rax: 48, rcx: 2, r8: 0x5000))
        // VMCALL: what the mask names; RBP too, as this TD has no NO_RBP_MOD.
        let guest = Registers(rcx: 1 << 10 | 1 << 12, rbx: 99, r10: 21, r11: 22, r12: 23)
        #expect(leave(.vmcall(registers: guest)) == Registers(rax: 77, rcx: 1 << 10 | 1 << 12, r10: 21, r12: 23))
    }

    @Test func `of VMCALL exits keep RBP when the TD asked for it`() throws {
        let host = try Host()
        let tdr = try host.makeTD { $0[32] = 4 }
        let tdvpr = try host.makeVCPU(tdr)
        try host.must(.mrFinalize, rcx: tdr)
        #expect(host.enter(tdvpr) == .success)
        host.registers = Registers(rbp: 4, rsi: 5)
        host.exit(tdvpr, .vmcall(registers: Registers(rcx: 1 << 10, r10: 21)))
        #expect(host.registers == Registers(rax: 77, rcx: 1 << 10, rbp: 4, r10: 21))
    }

    @Test func `of the module's start are zeros`() throws {
        let host = try Host(bringUp: false)
        #expect(host.call(.sysInit, rcx: 1, rdx: 2, r8: 3, r9: 4, r10: 5, r11: 6) == .operandInvalid.with(.rcx))
        #expect(host.registers.rcx == 0 && host.registers.rdx == 0 && host.registers.r8 == 0 && host.registers.r10 == 0)
        #expect(host.registers.r11 == 6)
        try host.must(.sysInit)
        #expect(host.call(.sysLpInit, rcx: 1, rdx: 2, r8: 3, r9: 4) == .success)
        #expect(host.registers == Registers(r9: 4))
        #expect(host.call(.sysInfo, rcx: 1, rdx: 2, r8: 3, r9: 4) == .operandInvalid.with(.rcx))
        #expect(host.registers.rdx == 0 && host.registers.r9 == 0 && host.registers.r8 == 3)
    }
}

@Suite struct `Checks in their order` {
    @Test func `VP.INIT counts a vCPU whose TSC check fails, and late modules make that check first`() throws {
        let host = try Host()
        let tdr = try host.makeTD()
        let tdvpr = host.page()
        try host.must(.vpCreate, rcx: tdvpr, rdx: tdr)
        for _ in 0..<5 { try host.must(.vpAddcx, rcx: host.page(), rdx: tdvpr) }
        host.module.faults.arm(.tscAdjust)
        #expect(host.call(.vpInit, rcx: tdvpr) == .inconsistentMSR.with(details: 0x3B))
        #expect(host.state(tdr).vcpus == 1)
        let late = try Host(PlatformDescription(memory: .gibibytes(2), version: .late))
        late.module.faults.arm(.tscAdjust)
        #expect(late.call(.vpInit, version: 2, rcx: 5) == .inconsistentMSR.with(details: 0x3B))
    }

    @Test func `SYS.SHUTDOWN looks at the handoff version before the lock`() throws {
        let host = try Host()
        host.module.makeBusy(.system)
        #expect(host.call(.sysShutdown, rcx: 1) == .operandInvalid.with(.rcx))
        host.module.makeBusy(.system, times: 0)
        #expect(host.call(.sysLpShutdown) == .success && host.call(.sysShutdown) == .success)
        #expect(host.call(.sysLpShutdown) == .success && host.call(.mngCreate) == .sysShutdown)
    }

    @Test func `SYS.UPDATE finds nothing that was handed on, and no time for it`() throws {
        let host = try Host(bringUp: false)
        #expect(host.call(.sysUpdate) == .sysStateIncorrect)
        try host.must(.sysInit)
        for processor: UInt32 in 0...1 {
            host.processor = LogicalProcessorID(processor)
            try host.must(.sysLpInit)
        }
        #expect(host.call(.sysUpdate) == .sysInvalidHandoff)
        #expect(try Host().call(.sysUpdate) == .sysStateIncorrect)
    }

    @Test func `SYS.DISABLE ends a late module in every state, and is unknown before`() throws {
        #expect(try Host().call(.sysDisable) == .operandInvalid.with(.rax))
        let platform = PlatformDescription(memory: .gibibytes(2), version: .late)
        #expect(try Host(platform, bringUp: false).call(.sysDisable) == .success)
        let host = try Host(platform)
        _ = try host.makeRunnable()
        #expect(host.call(.sysDisable) == .success)
        #expect(host.call(.mngCreate) == .sysShutdown)
    }

    @Test func `PAMT.ADD takes neither page when the second cannot be taken`() throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(2), version: .late), dynamicPAMT: true)
        let base = host.platform.convertibleMemory[0].start.rawValue
        let (first, used, second) = (base + 0x80_0000, base + 0x80_1000, base + 0x80_2000)
        try host.must(.phymemPamtAdd, rcx: base + 0x20_0000 | 1, rdx: base + 0xA0_0000, r8: used)
        #expect(host.call(.phymemPamtAdd, rcx: base + 0x40_0000 | 1, rdx: first, r8: used) == .pageNotFree.with(.r8))
        #expect(host.call(.phymemPamtAdd, rcx: base + 0x40_0000 | 1, rdx: first, r8: second) == .success)
    }

    @Test func `a guest that faults at one instruction again and again is entered when its pages are there`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        let fault = TDExit.eptViolation(gpa: GuestPhysicalAddress(0x5123), qualification: 1, extended: .none)
        // Six in a row may be chance; the seventh lists the page.
        for _ in 0..<7 {
            #expect(host.enter(tdvpr) == .success)
            host.exit(tdvpr, fault)
        }
        #expect(host.enter(tdvpr).rawValue == 48)
        #expect(host.registers == Registers(rax: 48, rcx: 2, r8: 0x5000))
        #expect(host.call(.vpEnter, rcx: tdvpr).rawValue == 48 && host.registers.r8 == 0x5000)
        host.module.makeBusy(.septTree)
        #expect(host.enter(tdvpr) == .operandBusy.with(.septTree))
        // Mapped, not yet accepted: still a fault for the guest.
        try host.makeTables(tdr, 0x5000)
        try host.must(.memPageAug, rcx: 0x5000, rdx: tdr, r8: host.page())
        #expect(host.enter(tdvpr).rawValue == 48)
        let other = try Host()
        let (tdr2, tdvpr2) = try {
            let pair = try other.makeRunnable(); return (pair.tdr, pair.tdvpr)
        }()
        _ = tdr2
        // A guest that gets on in between is under no attack.
        for _ in 0..<20 {
            #expect(other.enter(tdvpr2) == .success)
            #expect(other.guest(tdvpr2, .vpInfo) == .completed(.success))
            other.exit(tdvpr2, fault)
        }
        #expect(other.enter(tdvpr2) == .success)
    }
}

@Suite struct `Fields that the guest reads` {
    @Test func `are its TD's, its vCPU's and the module's`() throws {
        let host = try Host()
        let (_, tdvpr) = try host.makeRunnable()
        #expect(host.enter(tdvpr) == .success)
        func call(_ leaf: TDCallLeaf, _ id: UInt64, rcx: UInt64 = 0, r8: UInt64 = 7, version: UInt64 = 0) -> TDXStatus?
        {
            host.registers = Registers(leaf, rcx: rcx, rdx: id, r8: r8)
            host.registers.rax |= version << 16
            guard case .completed(let status) = host.module.tdcall(&host.registers, vcpu: HostPhysicalAddress(tdvpr))
            else {
                return nil
            }
            return status
        }
        // What Linux guests read: CONFIG_FLAGS, TD_CTLS, NOTIFY_ENABLES, TDX_FEATURES0.
        #expect(call(.vmRd, 0x1110_0003_0000_0016) == .success && host.registers.r8 == 0)
        #expect(call(.vmRd, 0x1110_0003_0000_0017) == .success && host.registers.r8 == 1)
        #expect(call(.sysRd, 0x0A00_0003_0000_0008) == .success && host.registers.r8 == 0xF_0EBF)
        #expect(host.registers.rdx == 0xA000_0003_0000_0000)
        #expect(call(.sysRd, 0x9100_0001_0000_0008) == .metadataFieldNotReadable && host.registers.r8 == 0)
        #expect(host.registers.rdx == .max)
        #expect(call(.vmRd, 0x1110_0003_0000_0017, rcx: 1) == .operandInvalid.with(.rcx) && host.registers.r8 == 0)
        #expect(call(.vmRd, .max, version: 1) == .metadataFirstFieldIDInContext)
        #expect(host.registers.rdx == 0x8010_0003_0000_0020)
        #expect(
            call(.vmRd, 0x9010_0002_0000_0001, version: 1) == .success && host.registers.rdx == 0x9010_0001_0000_0005)
        #expect(call(.vmRd, 0, version: 2) == .operandInvalid.with(.rax))
        #expect(call(.vpRd, 0xA020_0002_0000_0002) == .success && host.registers.r8 == 0)
        #expect(call(.vpRd, 0x0024_0001_0000_0002) == .metadataFieldNotReadable)
        host.exit(tdvpr)
    }

    @Test func `can be written as far as the TD was configured`() throws {
        let host = try Host()
        func attempt(_ flags: UInt8) throws -> TDCallOutcome {
            let tdr = try host.makeTD { $0[32] = flags }
            let tdvpr = try host.makeVCPU(tdr)
            try host.must(.mrFinalize, rcx: tdr)
            #expect(host.enter(tdvpr) == .success)
            defer { host.exit(tdvpr) }
            host.registers = Registers(.vmWr, rdx: 0x1110_0003_0000_0017, r8: 0, r9: 1)
            return host.module.tdcall(&host.registers, vcpu: HostPhysicalAddress(tdvpr))
        }
        #expect(try attempt(0) == .completed(.metadataFieldValueNotValid))
        #expect(host.registers.r8 == 0)
        #expect(try attempt(2) == .completed(.success))
    }
}

@Suite struct `A recording that states some registers` {
    private static let header =
        #"{"trace": 1, "version": "1.5.01", "packages": 1, "processors_per_package": 2, "mktme_keys": 31, "#
        + #""tdx_keys": 32, "key_id_bits": 6, "convertible": [["0x100000000", "0x100000000"], "#
        + #"["0x200000000", "0x40000000"]], "brought_up": 1}"#

    private func line(_ out: String) -> String {
        #"{"kind": "seamcall", "in": {"rax": "0x22", "rdx": "0xa00000300000008"}, "out": {"rax": "0x0", \#(out)}, "#
            + #""processor": 0}"#
    }

    @Test func `is compared by these alone`() throws {
        // RDX became the next field's identifier, of which the recording says nothing.
        let right = try TraceReplay(lines: [Self.header, line(#""r8": "0xf0ebf""#)])
        #expect(right.calls == 1 && right.disagreements.isEmpty)
        let wrong = try TraceReplay(lines: [Self.header, line(#""r8": "0xf0ebf", "rdx": "0x1""#)])
        #expect(wrong.disagreements.map(\.what) == ["rdx"])
        // A complete recording, as the module writes it, names all that changed.
        let complete = Self.header.replacing(#""trace": 1"#, with: #""trace": 2"#)
        let missing = try TraceReplay(lines: [complete, line(#""r8": "0xf0ebf""#)])
        #expect(missing.disagreements.map(\.what) == ["rdx"])
    }
}
