import TDXStatusCodes
import Testing

@Suite struct `A status` {
    /// Reference §9.1.
    static let compositions: [(TDXStatus, UInt64)] = [
        (.operandInvalid.with(.rax), 0xC000_0100_0000_0000), (.operandInvalid.with(.rcx), 0xC000_0100_0000_0001),
        (.operandInvalid.with(.rdx), 0xC000_0100_0000_0002), (.operandInvalid.with(.r8), 0xC000_0100_0000_0008),
        (.operandInvalid.with(.r9), 0xC000_0100_0000_0009),
        (.operandInvalid.with(.attributes), 0xC000_0100_0000_0040),
        (.operandInvalid.with(.configFlags), 0xC000_0100_0000_0042),
        (.operandInvalid.with(.cpuidConfig), 0xC000_0100_0000_0045),
        (.operandAddrRangeError.with(.rcx), 0xC000_0101_0000_0001),
        (.operandBusy.with(.rcx), 0x8000_0200_0000_0001), (.operandBusy.with(.rdx), 0x8000_0200_0000_0002),
        (.operandBusy.with(.tdr), 0x8000_0200_0000_0080), (.operandBusy.with(.septTree), 0x8000_0200_0000_0092),
        (.operandBusy.with(.tdEpoch), 0x8000_0200_0000_00A9), (.operandBusy.with(.opState), 0x8000_0200_0000_00AC),
        (.operandBusy.with(.kot), 0x8000_0200_0000_00BA), (.operandBusy.with(.ket), 0x8000_0200_0000_00BB),
        (.operandBusy.with(.wbcache), 0x8000_0200_0000_00BC), (.previousTLBEpochBusy, 0x8000_0201_0000_0000),
        (.pageMetadataIncorrect.with(.rcx), 0xC000_0300_0000_0001),
        (.pageMetadataIncorrect.with(.r8), 0xC000_0300_0000_0008), (.hkidNotFree, 0xC000_0820_0000_0000),
        (.lifecycleStateIncorrect, 0xC000_0607_0000_0000),
        (.opStateIncorrect.with(details: 2), 0xC000_0608_0000_0002),
        (.eptWalkFailed.with(.rcx), 0xC000_0B00_0000_0001),
        (.eptEntryStateIncorrect.with(.rcx), 0xC000_0B0D_0000_0001),
        (.gpaRangeNotBlocked.with(.rcx), 0xC000_0B06_0000_0001),
        (.gpaRangeAlreadyBlocked.with(.rcx), 0x0000_0B07_0000_0001),
        (.tlbTrackingNotDone.with(.rcx), 0xC000_0B08_0000_0001),
        (.tlbTrackingNotDone.with(.septTree), 0xC000_0B08_0000_0092),
        (.eptInvalidPromoteConditions.with(.rcx), 0xC000_0B09_0000_0001),
        (.eptPageNotFree.with(.rcx), 0xC000_0B0E_0000_0001),
        (.pageAlreadyAccepted.with(details: 1), 0x0000_0B0A_0000_0001),
        (.l2SEPTWalkFailed.with(virtualMachine: 2, level: 1), 0xC000_0B0F_0002_0001),
        (.invalidPAMT.with(bytes: 3, 0), 0xC000_0A10_0000_0003),
        (.invalidPAMT.with(bytes: 3, 1), 0xC000_0A10_0000_0103),
        (.pamtOverlap.with(bytes: 1, 1, 5), 0xC000_0A12_0005_0101),
        (.tdAssociatedPagesExist, 0xC000_0400_0000_0000), (.flushvpNotDone, 0x8000_0824_0000_0000),
        (.wbcacheNotComplete, 0x8000_0817_0000_0000), (.x2apicIDNotUnique.with(details: 7), 0xC000_0621_0000_0007),
    ]

    @Test(arguments: compositions) func `is composed by adding what its low half says`(status: TDXStatus, raw: UInt64) {
        #expect(status.rawValue == raw)
    }

    @Test func `keeps a code that nobody knows and explains it by its fields`() {
        let unknown = TDXStatus(0xC000_0DFE_0000_0007)
        let explanation = unknown.explain()
        #expect(explanation.status.rawValue == 0xC000_0DFE_0000_0007)
        #expect(explanation.name == nil)
        #expect(explanation.statusClass == "service trust domain")
        #expect(explanation.severity == .nonRecoverable)
        #expect(explanation.operand == "RDI")
        #expect(explanation.cause.contains("number 254"))
    }

    @Test(
        arguments: [
            (0x0000_0000_0000_0000, StatusSeverity.success), (0x0000_0815_0000_0000, .info),
            (0x8000_0200_0000_0001, .recoverable), (0xC000_0300_0000_0001, .nonRecoverable),
            (0xE000_0604_0000_0000, .fatal), (0x4000_0001_0000_0000, .nonRecoverable), (0x6000_0002_0000_0000, .fatal),
        ] as [(UInt64, StatusSeverity)])
    func `is as bad as its top bits say`(raw: UInt64, severity: StatusSeverity) {
        #expect(TDXStatus(raw).severity == severity)
    }

    @Test(
        arguments: [
            (0xC000_0300_0000_0001, "PAGE_METADATA_INCORRECT", "RCX"), (0x8000_0200_0000_0080, "OPERAND_BUSY", "TDR"),
            (0x8000_0200_0000_0000, "OPERAND_BUSY", "RAX"), (0xC000_0100_0000_0000, "OPERAND_INVALID", "RAX"),
            (0xC000_0A12_0005_0101, "PAMT_OVERLAP", "TDMR 1, PAMT of 2 MiB pages, with TDMR 5"),
            (0xC000_0B0F_0002_0001, "L2_SEPT_WALK_FAILED", "virtual machine 2, level 1"),
            (0xC000_0920_0000_003B, "INCONSISTENT_MSR", "MSR 0x3B"),
            (0x0000_0B0A_0000_0001, "PAGE_ALREADY_ACCEPTED", "level 1"),
            (0x8000_0824_0000_0000, "FLUSHVP_NOT_DONE", nil), (0x8000_FF00_FFFF_0000, "SEAMCALL_VMFAILINVALID", nil),
            (0x8000_FF00_0000_000D, "SEAMCALL_GP", nil), (0x0000_0000_0000_004D, "SUCCESS", "exit reason 77"),
        ] as [(UInt64, String, String?)])
    func `is explained with its name and operand`(raw: UInt64, name: String, operand: String?) {
        let explanation = TDXStatus(raw).explain()
        #expect(explanation.name == name)
        #expect(explanation.operand == operand)
        #expect(!explanation.cause.isEmpty && !explanation.nextStep.isEmpty)
    }

    @Test func `has one row in the table for each value`() {
        let values = TDXStatus.allKnown
        #expect(Set(values).count == values.count)
        #expect(values.count > 170)
        for value in values { #expect(value.name != nil && value.base == value) }
    }

    @Test func `has the published name, and is found by it`() {
        #expect(publishedNames.count == 164)
        for (upperHalf, name) in publishedNames {
            let status = TDXStatus(UInt64(upperHalf) << 32)
            #expect(status.name == name)
            #expect(TDXStatus(name: name) == status && TDXStatus(name: "tdx_" + name.lowercased()) == status)
        }
        #expect(TDXStatus(name: "OPERAND_BUSY") == .operandBusy && TDXStatus(name: "SUCCESS") == .success)
        #expect(TDXStatus(name: "") == nil && TDXStatus(name: "OPERAND") == nil)
    }

    @Test func `reads as number, name and operand`() {
        #expect(TDXStatus(0xC000_0300_0000_0001).description == "0xc000030000000001 PAGE_METADATA_INCORRECT (RCX)")
        #expect(TDXStatus(0x0000_0815_0000_0000).description == "0x0000081500000000 KEY_CONFIGURED")
    }

    @Test(arguments: TDXStatus.allKnown + [TDXStatus(.max), TDXStatus(0x4D)])
    func `is read back from its sixteen digits`(status: TDXStatus) {
        #expect(TDXStatus(hexadecimal: status.hexadecimal) == status)
    }

    @Test(
        arguments: [
            "", "0x", "0xc00003000000000", "0xc0000300000000011", "c000030000000001", "0Xc000030000000001",
            "0x+000030000000001", "0x-000030000000001", "0xc00003000000000g", "SUCCESS",
        ])
    func `is not read from anything else`(text: String) {
        #expect(TDXStatus(hexadecimal: text) == nil)
    }

    @Test func `is busy in class 2 alone`() {
        #expect(TDXStatus.operandBusy.with(.tdr).isBusy && TDXStatus.previousTLBEpochBusy.isBusy)
        #expect(!TDXStatus.keyGenerationFailed.isBusy && !TDXStatus.success.isBusy)
    }
}
