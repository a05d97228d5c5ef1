import MemoryUnits
@_spi(Testing) import TDXModule
import TDXStatusCodes
import Testing

@Suite struct `Changing memory` {
    /// A runnable trust domain with one vCPU, tables down to level 0 at GPA 0, and `pages` accepted pages.
    func prepared(
        pages: UInt64 = 1, _ platform: PlatformDescription = PlatformDescription(memory: .gibibytes(2))
    ) throws -> (Host, UInt64, UInt64) {
        let host = try Host(platform)
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0)
        for page in 0..<pages { try host.must(.memPageAug, rcx: page << 12, rdx: tdr, r8: host.page()) }
        #expect(host.enter(tdvpr) == .success)
        for page in 0..<pages { #expect(host.accept(tdvpr, page << 12) == .completed(.success)) }
        host.exit(tdvpr)
        return (host, tdr, tdvpr)
    }

    @Test func `relocating moves contents, frees the old page and keeps the count`() throws {
        let (host, tdr, _) = try prepared()
        let old = host.entry(0, tdr).address!
        let key = host.state(tdr).keyID
        let pattern = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        pattern.withUnsafeBytes { host.memory.write(old, key: key, from: $0) }
        let count = host.state(tdr).childCount
        let new = host.page()
        #expect(host.call(.memPageRelocate, rcx: 0, rdx: tdr, r8: new) == .gpaRangeNotBlocked.with(.rcx))
        try host.must(.memRangeBlock, rcx: 0, rdx: tdr)
        #expect(host.call(.memPageRelocate, rcx: 0, rdx: tdr, r8: old.rawValue) == .operandInvalid.with(.r8))
        #expect(host.call(.memPageRelocate, rcx: 0, rdx: tdr, r8: new) == .tlbTrackingNotDone.with(.rcx))
        try host.must(.memTrack, rcx: tdr)
        #expect(host.call(.memPageRelocate, rcx: 0, rdx: tdr, r8: tdr) == .operandBusy.with(.r8))
        try host.must(.memPageRelocate, rcx: 0, rdx: tdr, r8: new)
        #expect(host.registers.rcx == old.rawValue)
        #expect(host.metadata(old.rawValue).type == .free && host.metadata(new).type == .regular)
        #expect(host.entry(0, tdr).state == .mapped && host.entry(0, tdr).address == HostPhysicalAddress(new))
        #expect(host.state(tdr).childCount == count)
        var copy = [UInt8](repeating: 0, count: 4096)
        copy.withUnsafeMutableBytes { host.memory.read(HostPhysicalAddress(new), key: key, into: $0) }
        #expect(copy == pattern)
    }

    @Test func `demoting and promoting again gives the same large page back`() throws {
        let (host, tdr, tdvpr) = try prepared(pages: 0)
        let large = host.large()
        try host.must(.memPageAug, rcx: 0x20_0001, rdx: tdr, r8: large)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.accept(tdvpr, 0x20_0001) == .completed(.success))
        host.exit(tdvpr)
        let count = host.state(tdr).childCount
        try host.must(.memRangeBlock, rcx: 0x20_0001, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        let table = host.page()
        try host.must(.memPageDemote, rcx: 0x20_0001, rdx: tdr, r8: table, r9: 0x7000, r10: .max, r11: 0)
        #expect(host.registers.rcx == 0 && host.registers.rdx == 0)
        #expect(host.registers.r9 == 0x7000 | 1 << 63 && host.registers.r11 == 1 << 63)
        #expect(host.state(tdr).childCount == count + 1)
        #expect(host.metadata(table).type == .ept)
        for page: UInt64 in [0, 1, 511] {
            #expect(host.entry(0x20_0000 + page << 12, tdr).state == .mapped)
            #expect(host.entry(0x20_0000 + page << 12, tdr).address == HostPhysicalAddress(large + page << 12))
            let metadata = host.metadata(large + page << 12)
            #expect(metadata.type == .regular && metadata.owner == HostPhysicalAddress(tdr))
            #expect(metadata.size == 0 && metadata.blockEpoch == 0)
        }
        // Promoting needs the table blocked and tracked.
        #expect(host.call(.memPagePromote, rcx: 0x20_0001, rdx: tdr) == .gpaRangeNotBlocked.with(.rcx))
        try host.must(.memRangeBlock, rcx: 0x20_0001, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        try host.must(.memPagePromote, version: 1, rcx: 0x20_0001, rdx: tdr)
        #expect(host.registers.rcx == table && host.registers.r9 == .max && host.registers.r11 == .max)
        #expect(host.state(tdr).childCount == count)
        #expect(host.entry(0x20_0000, tdr, level: 1).state == .mapped)
        #expect(host.metadata(large).size == 1)
        #expect(host.metadata(table).type == .free)
    }

    @Test func `a range that is not uniform cannot be promoted, and stays as it was`() throws {
        let (host, tdr, _) = try prepared(pages: 1)
        #expect(host.call(.memRangeBlock, rcx: 1, rdx: tdr) == .success)
        try host.must(.memTrack, rcx: tdr)
        #expect(host.call(.memPagePromote, rcx: 1, rdx: tdr).rawValue == 0xC000_0B09_0000_0001)
        #expect(host.registers.rdx == 1 | 0x81 << 8)
        #expect(host.entry(0, tdr, level: 1).state == .tableBlocked)
        try host.must(.memRangeUnblock, rcx: 1, rdx: tdr)
        #expect(host.entry(0, tdr).state == .mapped && !host.entry(0, tdr).isLocked)
    }

    @Test func `512 large pages become one of 1 GiB, and fall apart again`() throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(4)))
        let tdr = try host.makeTD()
        _ = try host.makeVCPU(tdr)
        try host.makeTables(tdr, 0, to: 1)
        let base = host.platform.convertibleMemory[0].start.rawValue + 2 << 30
        for index: UInt64 in 0..<512 {
            try host.must(.memPageAug, rcx: index << 21 | 1, rdx: tdr, r8: base + index << 21)
        }
        let count = host.state(tdr).childCount
        try host.must(.memPagePromote, rcx: 2, rdx: tdr)
        let table = host.registers.rcx
        #expect(host.metadata(base + 0x1234_5000).size == 2)
        #expect(host.state(tdr).childCount == count - 1)
        #expect(host.entry(0, tdr, level: 2).state == .pending)
        #expect(host.call(.memPageAug, rcx: 0x4000_0001, rdx: tdr, r8: base) == .eptWalkFailed.with(.rcx))
        try host.makeTables(tdr, 0x4000_0000, to: 1)
        #expect(host.call(.memPageAug, rcx: 0x4000_0001, rdx: tdr, r8: base) == .pageMetadataIncorrect.with(.r8))
        try host.must(.memPageDemote, rcx: 2, rdx: tdr, r8: table)
        #expect(host.metadata(base + 0x1234_5000).size == 1)
        #expect(host.state(tdr).childCount == count + 1)  // the table that replaced the freed one, and GPA 1 GiB's
        // A 1 GiB page can be removed in one.
        try host.must(.memPagePromote, rcx: 2, rdx: tdr)
        try host.must(.memPageRemove, rcx: 2, rdx: tdr)
        #expect(host.registers.rcx == base)
        #expect(host.metadata(base).type == .free)
    }

    @Test func `an interrupt stops promotion and demotion with nothing changed`() throws {
        let (host, tdr, _) = try prepared(pages: 0)
        let large = host.large()
        try host.must(.memPageAug, rcx: 0x20_0001, rdx: tdr, r8: large)
        try host.must(.memRangeBlock, rcx: 0x20_0001, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        let table = host.page()
        host.module.faults.arm(.interrupt)
        #expect(host.call(.memPageDemote, rcx: 0x20_0001, rdx: tdr, r8: table) == .interruptedRestartable)
        #expect(host.registers.rcx == 0x20_0001 && host.registers.rdx == tdr)
        #expect(host.metadata(table).type == .free && host.metadata(large).size == 1)
        try host.must(.memPageDemote, rcx: 0x20_0001, rdx: tdr, r8: table)
        try host.must(.memRangeBlock, rcx: 0x20_0001, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        host.module.faults.arm(.interrupt)
        #expect(host.call(.memPagePromote, rcx: 0x20_0001, rdx: tdr) == .interruptedRestartable)
        #expect(!host.entry(0x20_0000, tdr).isLocked)
        try host.must(.memPagePromote, rcx: 0x20_0001, rdx: tdr)
    }

    @Test func `a table goes only when it is empty`() throws {
        let (host, tdr, _) = try prepared()
        try host.must(.memRangeBlock, rcx: 1, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        #expect(host.call(.memSeptRemove, rcx: 1, rdx: tdr) == .eptPageNotFree.with(.rcx))
        #expect(host.registers.rcx == 0 && host.registers.rdx == 0x8101)
        try host.must(.memRangeUnblock, rcx: 1, rdx: tdr)
        try host.must(.memRangeBlock, rcx: 0, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        try host.must(.memPageRemove, rcx: 0, rdx: tdr)
        #expect(host.call(.memSeptRemove, rcx: 1, rdx: tdr) == .gpaRangeNotBlocked.with(.rcx))
        try host.must(.memRangeBlock, rcx: 1, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        let table = host.entry(0, tdr, level: 1).address!
        try host.must(.memSeptRemove, version: 1, rcx: 1, rdx: tdr)
        #expect(host.registers.rcx == table.rawValue && host.registers.r10 == .max)
        #expect(host.entry(0, tdr, level: 1).state == .free)
    }

    @Test func `debug memory is read and written eight bytes at a time`() throws {
        let host = try Host()
        let tdr = try host.makeTD { $0[0] = 1 }
        try host.makeTables(tdr, 0)
        try host.must(.memPageAdd, rcx: 0, rdx: tdr, r8: host.page(), r9: 0)
        try host.must(.memWr, rcx: 8, rdx: tdr, r8: 0x1122_3344_5566_7788)
        #expect(host.registers.r8 == 0)
        try host.must(.memRd, rcx: 8, rdx: tdr)
        #expect(host.registers.r8 == 0x1122_3344_5566_7788)
        #expect(host.call(.memRd, rcx: 4, rdx: tdr) == .operandInvalid.with(.rcx))
        let other = try host.makeTD()
        #expect(host.call(.memRd, rcx: 8, rdx: other) == .tdNonDebug)
    }

    @Test func `an existing table may be added again when the caller says so`() throws {
        let (host, tdr, _) = try prepared()
        let page = host.page()
        #expect(host.call(.memSeptAdd, rcx: 1, rdx: tdr, r8: page) == .eptEntryStateIncorrect.with(.rcx))
        #expect(host.registers.rdx == 0x8401)
        #expect(host.call(.memSeptAdd, rcx: 1, rdx: tdr | 1, r8: page) == .success)
        #expect(host.registers.r8 == page && host.metadata(page).type == .free)
        #expect(host.call(.memSeptAdd, rcx: 1, rdx: tdr | 2, r8: page) == .operandInvalid.with(.rdx))
        #expect(host.call(.memSeptAdd, rcx: 1, rdx: tdr | 1, r8: .max) == .operandInvalid.with(.r8))
        #expect(
            host.call(.memSeptAdd, version: 1, rcx: 1, rdx: tdr | 1, r8: .max, r9: .max, r10: .max, r11: .max)
                == .success)
        #expect(
            host.call(.memSeptAdd, version: 1, rcx: 1, rdx: tdr | 1, r8: .max, r9: .max, r10: 0x1000, r11: .max)
                == .operandInvalid.with(.r10))
        #expect(host.call(.memSeptAdd, version: 2, rcx: 1, rdx: tdr, r8: page) == .operandInvalid.with(.rax))
    }

    @Test func `a page cannot be given twice`() throws {
        let (host, tdr, _) = try prepared()
        let used = host.entry(0, tdr).address!.rawValue
        #expect(host.call(.memPageAug, rcx: 0x1000, rdx: tdr, r8: used).rawValue == 0xC000_0300_0000_0008)
        #expect(host.call(.memPageAug, rcx: 0x1000, rdx: tdr, r8: tdr) == .operandBusy.with(.r8))
        #expect(host.call(.memPageAug, rcx: 0x1000, rdx: tdr, r8: 0x1001).rawValue == 0xC000_0100_0000_0008)
        #expect(host.call(.memPageAug, rcx: 0x1000, rdx: tdr, r8: 0x1000).rawValue == 0xC000_0101_0000_0008)
        #expect(host.call(.memPageAug, rcx: 0x1000, rdx: tdr, r8: 1 << 51).rawValue == 0xC000_0100_0000_0008)
        // Its 2 MiB range neither, while the root page in it is in use by the very call.
        #expect(
            host.call(.memPageAug, rcx: 0x20_0001, rdx: tdr, r8: tdr & ~0x1F_FFFF) == .operandBusy.with(.r8))
    }

    @Test func `[late] a 4 KiB page needs PAMT pages for its range`() throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(2), version: .late), dynamicPAMT: true)
        let first = host.platform.convertibleMemory[0].start.rawValue
        #expect(host.call(.mngCreate, rcx: first, rdx: 33).rawValue == 0x8000_0308_0000_0001)
        let pair = (host.large(), host.large())
        try host.must(.phymemPamtAdd, rcx: first | 1, rdx: pair.0, r8: pair.1)
        #expect(
            host.call(.phymemPamtAdd, rcx: first | 1, rdx: pair.0 + 4096, r8: pair.1 + 4096)
                == .hpaRangeNotFree.with(.rcx))
        #expect(
            host.call(.phymemPamtAdd, rcx: (first + 2 << 20) | 1, rdx: pair.0, r8: pair.1 + 4096)
                == .pageNotFree.with(.rdx))
        try host.must(.mngCreate, rcx: first, rdx: 33)
        #expect(host.call(.phymemPamtRemove, rcx: first | 1).rawValue == 0xC000_0306_0000_0000)
        // A page that backs a PAMT is of no other use.
        #expect(host.call(.memPageAug, rcx: 1, rdx: first, r8: pair.0).isError)
        try host.must(.mngVpflushdone, rcx: first)
        try host.must(.phymemCacheWb)
        try host.must(.mngKeyFreeid, rcx: first)
        try host.must(.phymemPageReclaim, rcx: first)
        try host.must(.phymemPamtRemove, rcx: first | 1)
        #expect(host.registers.rdx == pair.0 && host.registers.r8 == pair.1)
        #expect(host.call(.phymemPamtRemove, rcx: first | 1) == .noPAMTPagePair.with(.rcx))
    }

    @Test func `[late] demoting consumes PAMT pages and promoting returns them`() throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(2), version: .late), dynamicPAMT: true)
        let first = host.platform.convertibleMemory[0].start.rawValue
        try host.must(.phymemPamtAdd, rcx: first | 1, rdx: host.large(), r8: host.large())
        let (tdr, _) = try host.makeRunnable()
        try host.makeTables(tdr, 0, to: 1)
        let large = host.large()
        try host.must(.memPageAug, rcx: 1, rdx: tdr, r8: large)
        try host.must(.memRangeBlock, rcx: 1, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        let pair = (host.large(), host.large())
        let status = host.call(
            .memPageDemote, rcx: 1, rdx: tdr, r8: host.page(), r9: .max, r10: .max, r11: .max, r12: pair.0, r13: pair.1)
        #expect(status == .success)
        #expect(host.entry(0x3000, tdr).state == .pending)
        try host.must(.memRangeBlock, rcx: 1, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        try host.must(.memPagePromote, rcx: 1, rdx: tdr)
        #expect(host.registers.r12 == pair.0 && host.registers.r13 == pair.1)
        #expect(host.metadata(large).size == 1)
    }
}
