import MemoryUnits
@_spi(Testing) import TDXModule
import TDXStatusCodes
import Testing

/// The tables of reference §4.4 and §6.3, restated literally.
enum LiteralTables {
    static let operationStates: [(SeamcallLeaf, String)] = [
        (.vpEnter, "..xx.....x."), (.memPageAdd, ".x........."), (.memSeptAdd, ".xxx..xxxx."),
        (.vpAddcx, ".x.....x..."), (.memPageRelocate, ".xxxxx..xx."), (.memPageAug, ".xxx.....x."),
        (.memRangeBlock, ".xxxxx..xx."), (.vpCreate, ".x.....x..."), (.mngRd, ".xxxxxxxxxx"),
        (.memRd, ".xxxxxxxxxx"), (.mngWr, ".xxx..xxxxx"), (.memWr, ".xxx..xxxxx"), (.memPageDemote, ".xxxxx..xx."),
        (.mrExtend, ".x........."), (.mrFinalize, ".x........."), (.mngInit, "x.........."),
        (.vpInit, ".x........."), (.memPagePromote, ".xxxxx..xx."), (.memSeptRd, ".xxxxxxxxxx"),
        (.vpRd, ".xxxxxxxxxx"), (.memPageRemove, ".xxxxx..xxx"), (.memSeptRemove, ".xxxxxxxxxx"),
        (.memTrack, ".xxxxxxxxx."), (.memRangeUnblock, ".xxxxx..xx."), (.vpWr, ".xxx..xxxxx"),
    ]

    static let entryStates: [(SeamcallLeaf, String)] = [
        (.memPageAdd, "x..............."), (.memSeptAdd, "x.x............."), (.memPageRelocate, "....xxxxxxxxxxxx"),
        (.memPageAug, "xx.............."), (.memRangeBlock, "..x.x.x...x.x..."), (.memRd, "....x.xxxx......"),
        (.memWr, "....x...x......."), (.memPageDemote, "....xx....xx...."), (.memPagePromote, "..xx............"),
        (.memSeptRd, "xxxxxxxxxxxxxxxx"), (.memPageRemove, "....xxx...xxx..."),
        (.memSeptRemove, "..xx............"), (.memRangeUnblock, "...x.x.....x...."),
    ]
}

/// Each cell of the tables, tried.
@Suite struct `The tables of states` {
    /// Public states, MEM.SEPT.RD's RDX bits 15:8 (reference §6.1).
    static let publicStates: [UInt64] = [0, 5, 132, 129, 4, 1, 8, 9, 11, 12, 2, 3, 16, 17, 19, 20]

    @Test func `cover every leaf that consults them`() {
        #expect(Set(LiteralTables.operationStates.map(\.0)).count == 25)
        #expect(Set(LiteralTables.entryStates.map(\.0)).count == 13)
    }

    @Test(arguments: LiteralTables.operationStates.map(\.0), [ModuleVersion.v1_5_01, .late])
    func `let a leaf pass in the operation states of its row alone`(leaf: SeamcallLeaf, version: ModuleVersion) throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(2), version: version))
        let tdr = try host.makeTD { $0[0] = 1 }
        let tdvpr = try host.makeVCPU(tdr)
        let row = Array(LiteralTables.operationStates.first { $0.0 == leaf }!.1)
        for state in OperationState.allCases where state.rawValue <= (version == .late ? 12 : 10) {
            host.module.force(state, of: HostPhysicalAddress(tdr))
            let byTDVPR: Set<SeamcallLeaf> = [.vpEnter, .vpInit, .vpRd, .vpWr]
            let byTDR: Set<SeamcallLeaf> = [.mngRd, .mngWr, .mngInit, .mrFinalize, .memTrack]
            // Operands whose first check after the state fails, so that nothing changes.
            let bad: UInt64 = 1 << 60
            let status =
                switch leaf {
                case _ where byTDVPR.contains(leaf): host.call(leaf, rcx: tdvpr, rdx: bad)
                case .vpAddcx: host.call(leaf, rcx: bad, rdx: tdvpr)
                case _ where byTDR.contains(leaf): host.call(leaf, rcx: tdr, rdx: bad)
                default: host.call(leaf, rcx: bad, rdx: tdr)
                }
            let column = state == .startExport ? 2 : Int(state.rawValue)
            let isAllowed = state == .startImport ? false : row[column] == "x"
            let refusal =
                version == .late
                ? TDXStatus(0xC000_0608_0000_0000 + UInt64(state.rawValue)) : TDXStatus(0xC000_0608_0000_0000)
            #expect((status != refusal) == isAllowed, "\(leaf) in \(state): \(status)")
            #expect(status.base == .opStateIncorrect || isAllowed)
            if leaf == .mrFinalize || leaf == .mngInit { host.module.force(state, of: HostPhysicalAddress(tdr)) }
        }
    }

    @Test(arguments: LiteralTables.entryStates.map(\.0))
    func `let a leaf pass on the entry states of its row alone`(leaf: SeamcallLeaf) throws {
        let row = Array(LiteralTables.entryStates.first { $0.0 == leaf }!.1)
        // Leaves on tables and large pages look at level 1, the others at level 0.
        let level: Int =
            switch leaf {
            case .memSeptAdd, .memPageDemote, .memPagePromote, .memSeptRemove: 1
            default: 0
            }
        for state in EntryState.allCases {
            let host = try Host()
            let tdr = try host.makeTD { $0[0] = 1 }
            _ = try host.makeVCPU(tdr)
            // Whatever the state, the entry refers to something that exists.
            try host.makeTables(tdr, 0, to: 1)
            let isTable = state == .tableMapped || state == .tableBlocked
            if level == 0 { try host.makeTables(tdr, 0, to: 0) }
            if isTable, level == 0 { continue }  // no table hangs under a 4 KiB entry
            let page = level == 1 ? host.large() : host.page()
            if isTable {
                try host.must(.memSeptAdd, rcx: 1, rdx: tdr, r8: host.page())
            } else if state != .free, state != .removed {
                try host.must(.memPageAug, rcx: UInt64(level), rdx: tdr, r8: page)
            }
            let gpa = GuestPhysicalAddress(0)
            host.module.force(state, at: gpa, level: level, of: HostPhysicalAddress(tdr))
            let other = host.page()
            let status =
                switch leaf {
                case .memPageAdd: host.call(leaf, rcx: 0, rdx: tdr, r8: other, r9: 0)
                case .memRd, .memWr: host.call(leaf, rcx: 0, rdx: tdr)
                // Bit 0: an existing table is fine.
                case .memSeptAdd: host.call(leaf, rcx: 1, rdx: tdr | 1, r8: other)
                default: host.call(leaf, rcx: UInt64(level), rdx: tdr, r8: other)
                }
            let isAllowed = row[Int(state.rawValue)] == "x"
            let isBlocked = [EntryState.tableBlocked, .blocked, .pendingBlocked].contains(state)
            // MEM.RD and MEM.WR walk to a page with rights, and refuse what has none before the table is asked.
            let isAccess = leaf == .memRd || leaf == .memWr
            let refusal: TDXStatus =
                leaf == .memRangeBlock && isBlocked
                ? .gpaRangeAlreadyBlocked
                : isAccess && !Self.statesWithRights.contains(state) ? .eptEntryNotPresent : .eptEntryStateIncorrect
            #expect((status.base != refusal) == isAllowed, "\(leaf) on \(state): \(status)")
            if !isAllowed {
                #expect(status == refusal.with(.rcx))
                #expect(host.registers.rdx == UInt64(level) | Self.publicStates[Int(state.rawValue)] << 8)
            }
        }
    }

    private static let statesWithRights: Set<EntryState> = [
        .mapped, .blockedForWriting, .exportedBlockedForWriting, .exportedDirty, .exportedDirtyBlockedForWriting,
    ]

    @Test(arguments: EntryState.allCases) func `give each state its public value and raw bits`(state: EntryState) throws
    {
        let raw: [UInt64] = [
            0x00E0_0000_0000_0000, 0x00C0_0000_0000_0000, 0, 0x0080_0000_0000_0000, 0xC0, 0x0080_0000_0000_00C0,
            0x0040_0000_0000_00C0, 0x0060_0000_0000_00C0, 0x0020_0000_0000_02C0, 0x0060_0000_0000_02C0,
            0x0100_0000_0000_00C0, 0x0180_0000_0000_00C0, 0x0140_0000_0000_00C0, 0x0160_0000_0000_00C0,
            0x0120_0000_0000_02C0, 0x0160_0000_0000_02C0,
        ]
        let host = try Host()
        let tdr = try host.makeTD()
        try host.makeTables(tdr, 0, to: 1)
        let page = host.large()
        try host.must(.memPageAug, rcx: 1, rdx: tdr, r8: page)
        let root = HostPhysicalAddress(tdr)
        host.module.force(state, at: GuestPhysicalAddress(0), level: 1, of: root)
        if state != .tableMapped, state != .tableBlocked {
            let entry = try #require(host.module.rawEntry(GuestPhysicalAddress(0), level: 1, of: root))
            #expect(entry & 0x01E0_0000_0000_02C0 == raw[Int(state.rawValue)])
        }
        #expect(UInt64(state.publicValue) == Self.publicStates[Int(state.rawValue)])
    }

    @Test func `show raw entries as hardware has them`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0)
        let page: UInt64 = 0x1_1234_5000
        let root = HostPhysicalAddress(tdr)
        func raw(_ level: Int = 0) -> UInt64? { host.module.rawEntry(GuestPhysicalAddress(0), level: level, of: root) }
        #expect(raw() == 0x80E0_0000_0000_0000)
        try host.must(.memPageAug, rcx: 0, rdx: tdr, r8: page)
        #expect(raw() == 0x8100_0000_0000_00F0 | page)
        try host.must(.memRangeBlock, rcx: 0, rdx: tdr)
        #expect(raw() == 0x8180_0000_0000_00F0 | page)
        try host.must(.memTrack, rcx: tdr)
        try host.must(.memRangeUnblock, rcx: 0, rdx: tdr)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0) == .completed(.success))
        host.exit(tdvpr)
        #expect(raw() == 0x8000_0000_0000_00F7 | page)
        host.module.setEntryLock(true, at: GuestPhysicalAddress(0), level: 0, of: root)
        #expect(raw() == 0x8000_0000_0000_08F7 | page)
        #expect(host.call(.memRangeBlock, rcx: 0, rdx: tdr).rawValue == 0x8000_0200_0000_0001)
        #expect(host.registers.rcx == 0x8000_0000_0000_00F7 | page && host.registers.rdx == 0x400)
        #expect(raw() == 0x8010_0000_0000_08F7 | page)
        host.module.setEntryLock(false, at: GuestPhysicalAddress(0), level: 0, of: root)
        // The host's next success takes the priority back.
        try host.must(.memRangeBlock, rcx: 0, rdx: tdr)
        #expect(raw() == 0x8080_0000_0000_00F0 | page)
        let table = host.entry(0, tdr, level: 1).address!.rawValue
        #expect(raw(1) == 0x8000_0000_0000_0007 | table)
        try host.must(.memRangeBlock, rcx: 1, rdx: tdr)
        #expect(raw(1) == 0x8080_0000_0000_0000 | table)
    }
}
