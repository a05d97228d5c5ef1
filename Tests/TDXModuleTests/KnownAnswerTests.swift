import MemoryUnits
import TDXModule
import TDXStatusCodes
import Testing

/// Reference §9.2 to §9.5.
@Suite struct `Known answers` {
    static let h: UInt64 = 0x1_1234_5000

    /// A runnable trust domain with tables for 0 … 1 GiB, and a page at GPA 0x40201000 of HPA `h`.
    func prepared(_ pending: Bool = false) throws -> (Host, UInt64, UInt64) {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0x4020_0000)
        try host.must(.memPageAug, rcx: 0x4020_1000, rdx: tdr, r8: Self.h)
        if !pending {
            #expect(host.enter(tdvpr) == .success)
            #expect(host.accept(tdvpr, 0x4020_1000) == .completed(.success))
            host.exit(tdvpr)
        }
        return (host, tdr, tdvpr)
    }

    @Test(
        arguments: [
            0x8000_0005, 0x8000_1001, 0x8000_0009, 0x0000_8000_0000_0000, 0x0010_0000_0000_0000,
        ] as [UInt64])
    func `an ill-formed level and address is refused as RCX`(rcx: UInt64) throws {
        let (host, tdr, _) = try prepared()
        let page = host.page()
        #expect(host.call(.memPageAug, rcx: rcx, rdx: tdr, r8: page).rawValue == 0xC000_0100_0000_0001)
        #expect(host.registers.rcx == 0 && host.registers.rdx == 0)
        #expect(host.call(.memSeptAdd, rcx: rcx, rdx: tdr, r8: page).rawValue == 0xC000_0100_0000_0001)
    }

    @Test func `an absent table stops the walk at a free entry of level 1`() throws {
        let (host, tdr, _) = try prepared()
        let status = host.call(.memPageAug, rcx: 0x4000_0000, rdx: tdr, r8: host.page())
        #expect(status.rawValue == 0xC000_0B00_0000_0001)
        #expect(host.registers.rcx == 0x8000_0000_0000_0000)
        #expect(host.registers.rdx == 0x0001)
    }

    @Test func `adding over a mapped page shows the page`() throws {
        let (host, tdr, _) = try prepared()
        let status = host.call(.memPageAug, rcx: 0x4020_1000, rdx: tdr, r8: host.page())
        #expect(status.rawValue == 0xC000_0B0D_0000_0001)
        #expect(host.registers.rcx == 0x8000_0000_0000_00F7 | Self.h)
        #expect(host.registers.rdx == 0x0400)
    }

    @Test func `adding over a pending page shows it without rights`() throws {
        let (host, tdr, _) = try prepared(true)
        host.call(.memPageAug, rcx: 0x4020_1000, rdx: tdr, r8: host.page())
        #expect(host.registers.rcx == 0x8000_0000_0000_00F0 | Self.h)
        #expect(host.registers.rdx == 0x0200)
    }

    @Test func `adding 2 MiB over a table shows a table without its address`() throws {
        let (host, tdr, _) = try prepared()
        #expect(host.call(.memPageAug, rcx: 0x4020_0001, rdx: tdr, r8: host.large()).base == .eptEntryStateIncorrect)
        #expect(host.registers.rcx == 7 && host.registers.rdx == 0x8401)
    }

    @Test func `blocking twice informs the second time`() throws {
        let (host, tdr, _) = try prepared()
        try host.must(.memRangeBlock, rcx: 0x4020_1000, rdx: tdr)
        let status = host.call(.memRangeBlock, rcx: 0x4020_1000, rdx: tdr)
        #expect(status.rawValue == 0x0000_0B07_0000_0001)
        #expect(host.registers.rcx == 0x8000_0000_0000_00F0 | Self.h && host.registers.rdx == 0x0100)
    }

    @Test func `removing without blocking is refused when runnable and fine before`() throws {
        let (host, tdr, _) = try prepared()
        #expect(host.call(.memPageRemove, rcx: 0x4020_1000, rdx: tdr).rawValue == 0xC000_0B06_0000_0001)
        #expect(host.registers.rcx == 0x8000_0000_0000_00F7 | Self.h && host.registers.rdx == 0x0400)

        let early = try Host()
        let root = try early.makeTD()
        try early.makeTables(root, 0)
        try early.must(.memPageAdd, rcx: 0, rdx: root, r8: Self.h, r9: 0)
        try early.must(.memPageRemove, rcx: 0, rdx: root)
        #expect(early.registers.rcx == Self.h)
    }

    @Test func `epochs go as in the walk-through`() throws {
        let (host, tdr, tdvpr) = try prepared()
        // Two epochs have not passed yet: this trust domain begins at 1.
        #expect(host.state(tdr).epoch == 1)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.state(tdr).insideOdd == 1 && host.state(tdr).insideEven == 0)
        try host.must(.memRangeBlock, rcx: 0x4020_1000, rdx: tdr)
        #expect(host.call(.memPageRemove, rcx: 0x4020_1000, rdx: tdr).rawValue == 0xC000_0B08_0000_0001)
        #expect(host.registers.rcx == 0 && host.registers.rdx == 0)
        try host.must(.memTrack, rcx: tdr)
        #expect(host.state(tdr).epoch == 2)
        #expect(host.call(.memPageRemove, rcx: 0x4020_1000, rdx: tdr).rawValue == 0xC000_0B08_0000_0001)
        #expect(host.call(.memRangeUnblock, rcx: 0x4020_1000, rdx: tdr).rawValue == 0xC000_0B08_0000_0092)
        #expect(host.call(.memTrack, rcx: tdr).rawValue == 0x8000_0201_0000_0000)
        host.exit(tdvpr)
        #expect(host.state(tdr).insideOdd == 0)
        #expect(host.call(.memPageRemove, rcx: 0x4020_1000, rdx: tdr) == .success)
        #expect(host.enter(tdvpr) == .success)
        #expect(host.state(tdr).insideEven == 1 && host.state(tdr).insideOdd == 0)
        host.exit(tdvpr)
    }

    @Test func `CHLDCNT counts every page, and reclaim empties it`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0)
        for page: UInt64 in 0..<4 { try host.must(.memPageAug, rcx: page << 12, rdx: tdr, r8: host.page()) }
        try host.must(.memPageAug, rcx: 0x20_0001, rdx: tdr, r8: host.large())
        #expect(host.state(tdr).childCount == 531)
        // Not before the key is gone.
        #expect(host.call(.phymemPageReclaim, rcx: tdvpr) == .lifecycleStateIncorrect)
        #expect(host.registers.rcx == 6 && host.registers.rdx == tdr && host.registers.r8 == 0)
        try host.tearDown(tdr, vcpus: [tdvpr])
        #expect(host.module.population == (0, 0, 0))
    }

    @Test func `a promoted range reports 2 MiB anywhere inside, and is reclaimed as one`() throws {
        let host = try Host()
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0)
        let large = host.large()
        for page: UInt64 in 0..<512 { try host.must(.memPageAug, rcx: page << 12, rdx: tdr, r8: large + page << 12) }
        let table = host.entry(0, tdr, level: 1).address!
        #expect(host.state(tdr).childCount == 12 + 2 + 513)
        try host.must(.memRangeBlock, rcx: 1, rdx: tdr)
        try host.must(.memTrack, rcx: tdr)
        try host.must(.memPagePromote, rcx: 1, rdx: tdr)
        #expect(host.registers.rcx == table.rawValue)
        #expect(host.state(tdr).childCount == 12 + 2 + 512)
        #expect(host.metadata(table.rawValue).type == .free)
        try host.must(.phymemPageRdmd, rcx: large + 0x5000)
        #expect(host.registers.rcx == 3 && host.registers.r8 == 1 && host.registers.rdx == tdr)
        try host.must(.vpFlush, rcx: tdvpr)
        try host.must(.mngVpflushdone, rcx: tdr)
        try host.must(.phymemCacheWb)
        try host.must(.mngKeyFreeid, rcx: tdr)
        #expect(host.call(.phymemPageReclaim, rcx: large + 0x1000).rawValue == 0xC000_0100_0000_0001)
        #expect(host.registers.rcx == 3 && host.registers.rdx == tdr && host.registers.r8 == 1)
        #expect(host.call(.phymemPageReclaim, rcx: tdr) == .tdAssociatedPagesExist)
        try host.must(.phymemPageReclaim, rcx: large)
        #expect(host.state(tdr).childCount == 12 + 2)
    }

    @Test func `a TDMR of 1 GiB takes 256 calls and is of no use before`() throws {
        let host = try Host(PlatformDescription(memory: .gibibytes(1), logicalProcessorsPerPackage: 1), bringUp: false)
        let base = host.platform.convertibleMemory[0].start.rawValue
        let metadata = host.platform.convertibleMemory[1].start.rawValue
        try host.must(.sysInit)
        try host.must(.sysLpInit)
        let words: [UInt64] = [
            base, 1 << 30, metadata, 4096, metadata + 4096, 8192, metadata + 12288, 4 << 20,
        ]
        for (index, word) in words.enumerated() {
            withUnsafeBytes(of: word) {
                host.memory.write(HostPhysicalAddress(0x1000 + 8 * UInt64(index)), key: KeyID(0), from: $0)
            }
        }
        withUnsafeBytes(of: UInt64(0x1000)) { host.memory.write(HostPhysicalAddress(0x2000), key: KeyID(0), from: $0) }
        #expect(host.call(.sysTdmrInit, rcx: base) == .sysNotReady)
        try host.must(.sysConfig, rcx: 0x2000, rdx: 1, r8: 32)
        #expect(host.module.keyState(KeyID(32)) == .reserved)
        try host.must(.sysKeyConfig)
        for call in 1...255 {
            try host.must(.sysTdmrInit, rcx: base)
            if host.registers.rdx != base { Issue.record("call \(call) returned \(host.registers.rdx)") }
        }
        #expect(host.call(.mngCreate, rcx: base, rdx: 33).rawValue == 0xC000_0101_0000_0001)
        try host.must(.sysTdmrInit, rcx: base)
        #expect(host.registers.rdx == base + 0x4000_0000)
        #expect(host.call(.sysTdmrInit, rcx: base).rawValue == 0x0000_0A03_0000_0000)
        #expect(host.registers.rdx == 0)
        try host.must(.mngCreate, rcx: base, rdx: 33)
    }

    enum Step {
        case add(UInt64)
        case extend(UInt64)
    }

    @Test(
        arguments: [
            (
                [], [],
                "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b"
            ),
            (
                [0], [],
                "8f3e9a8aca6784eab874f7aa4dda5d49104a88047f1f86695ef2a88f5691a90e34aac48ce45ffa1f5a23c7d62980d570"
            ),
            (
                [0], [0],
                "236f0efa607ff8843f1855d7ef80dc3dda8fb455787a186b8787212951eab0096e3193bb26f817c2b63c21f5e10f9938"
            ),
            (
                [0, 0x1000], [],
                "d88b05f52648c041e7f0321f3905ec848a2d2654cf8c2158f67bc25ecd8a1a999f5f65f5350db0f732b59cfc66d6da3b"
            ),
            (
                [0, 0x1000], [0],
                "507ee79f481b6d1febfbd07dfd779a7eed9b221b8833882d66b18167c4d3e0d9543dbd9239e37f17467fecde72baafe0"
            ),
            (
                [0xFFFF_F000], [0xFFFF_F000],
                "07f08f558c5e2593b33452cf00c12a165c07b027a36424ecfa15ebf39b5415e0ed62418458e4bfd77f16fec0f1568dc9"
            ),
        ] as [([UInt64], [UInt64], String)])
    func `MRTD is the hash of the records in call order`(added: [UInt64], measured: [UInt64], mrtd: String) throws {
        let host = try Host()
        let tdr = try host.makeTD()
        _ = try host.makeVCPU(tdr)
        for gpa in added {
            try host.makeTables(tdr, gpa)
            try host.must(.memPageAdd, rcx: gpa, rdx: tdr, r8: host.page(), r9: 0)
        }
        for gpa in measured {
            for chunk: UInt64 in 0..<16 { try host.must(.mrExtend, rcx: gpa + 256 * chunk, rdx: tdr) }
        }
        try host.must(.mrFinalize, rcx: tdr)
        #expect(hex(host.state(tdr).mrtd) == mrtd)
        #expect(host.module.mrtd(of: HostPhysicalAddress(tdr)).map(hex) == mrtd)
    }

    @Test(
        arguments: [
            (0x00, "f57bb7ed82c6ae4a29e6c9879338c592c7d42a39135583e8ccbe3940f2344b0eb6eb8503db0ffd6a39ddd00cd07d8317"),
            (0xFF, "7d4fd80ec2887e82b1a453745c5cbd24e2be56273d311fd7ab567c50c7a3a37065b7328375dc9045fb0fe02e12d34d75"),
        ] as [(UInt8, String)])
    func `an RTMR is extended by 48 bytes`(byte: UInt8, rtmr: String) throws {
        let (host, tdr, tdvpr) = try prepared()
        let key = host.state(tdr).keyID
        [UInt8](repeating: byte, count: 48).withUnsafeBytes {
            host.memory.write(HostPhysicalAddress(Self.h + 64), key: key, from: $0)
        }
        #expect(host.enter(tdvpr) == .success)
        #expect(host.guest(tdvpr, .mrRtmrExtend, rcx: 0x4020_1040, rdx: 2) == .completed(.success))
        #expect(hex(host.state(tdr).rtmrs[2]) == rtmr)
        #expect(host.state(tdr).rtmrs[1] == [UInt8](repeating: 0, count: 48))
        host.exit(tdvpr)
    }
}
