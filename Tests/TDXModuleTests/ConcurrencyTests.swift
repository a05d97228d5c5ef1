import MemoryUnits
import TDXModule
import TDXStatusCodes
import TestSupport
import Testing

@Suite struct `Several threads` {
    static let platform = PlatformDescription(
        memory: .gibibytes(2), packages: 1, logicalProcessorsPerPackage: 8)

    /// Registers in, status and registers out, on a logical processor.
    static func call(
        _ module: TDXModule, _ lp: Int, _ leaf: SeamcallLeaf, _ rcx: UInt64 = 0, _ rdx: UInt64 = 0, _ r8: UInt64 = 0
    ) -> (status: TDXStatus, registers: Registers) {
        var registers = Registers(leaf, rcx: rcx, rdx: rdx, r8: r8)
        let status = module.seamcall(&registers, on: LogicalProcessorID(UInt32(lp)))
        return (status, registers)
    }

    @Test func `on one trust domain meet busy locks, and lose and double nothing`() async throws {
        let host = try Host(Self.platform)
        let (tdr, tdvpr) = try host.makeRunnable()
        try host.makeTables(tdr, 0)
        let module = host.module
        let first = (host.page() + 0x1F_FFFF) & ~0x1F_FFFF
        let pages: UInt64 = 64
        host.nextPage = first + pages << 12
        let before = host.state(tdr).childCount
        // Every thread tries to map, block, track and remove the same GPAs with pages that they fight for.
        let changes = await withTaskGroup(of: Int.self) { group in
            for thread in 0..<4 {
                group.addTask {
                    var dice = SeededRandom(seed: UInt64(thread) + 1)
                    var balance = 0
                    for _ in 0..<4_000 {
                        let gpa = (dice.next() % pages) << 12
                        let page = first + (dice.next() % pages) << 12
                        switch dice.next() % 4 {
                        case 0:
                            if Self.call(module, thread, .memPageAug, gpa, tdr, page).status == .success {
                                balance += 1
                            }
                        case 1: _ = Self.call(module, thread, .memRangeBlock, gpa, tdr)
                        case 2: _ = Self.call(module, thread, .memTrack, tdr)
                        default:
                            if Self.call(module, thread, .memPageRemove, gpa, tdr).status == .success { balance -= 1 }
                        }
                    }
                    return balance
                }
            }
            return await group.reduce(0, +)
        }
        let state = host.state(tdr)
        #expect(Int(state.childCount) == Int(before) + changes)
        let owned = (0..<pages).filter { host.metadata(first + $0 << 12).type == .regular }
        let mapped = (0..<pages).map { host.entry($0 << 12, tdr) }.filter { $0.state != .free }
        #expect(owned.count == changes && mapped.count == changes)
        #expect(Set(mapped.map(\.address)).count == changes)
        #expect(mapped.allSatisfy { !$0.isLocked })
        // Nobody holds anything any more.
        #expect(host.call(.mngKeyConfig, rcx: tdr) == .lifecycleStateIncorrect)
        try host.tearDown(tdr, vcpus: [tdvpr])
        #expect(module.population == (0, 0, 0))
    }

    @Test func `guests that accept and a host that blocks agree about every page`() async throws {
        let host = try Host(Self.platform)
        let tdr = try host.makeTD()
        let vcpus = [try host.makeVCPU(tdr), try host.makeVCPU(tdr)]
        for vcpu in vcpus { try host.must(.vpFlush, rcx: vcpu) }
        try host.makeTables(tdr, 0)
        try host.must(.mrFinalize, rcx: tdr)
        let pages: UInt64 = 32
        let base = host.nextLarge
        host.nextLarge += 2 << 20
        for page in 0..<pages { try host.must(.memPageAug, rcx: page << 12, rdx: tdr, r8: base + page << 12) }
        let module = host.module
        await withTaskGroup(of: Void.self) { group in
            for (thread, tdvpr) in vcpus.enumerated() {
                group.addTask {
                    let vcpu = HostPhysicalAddress(tdvpr)
                    let lp = LogicalProcessorID(UInt32(thread + 1))
                    var dice = SeededRandom(seed: UInt64(thread) + 11)
                    for _ in 0..<600 {
                        var registers = Registers(.vpEnter, rcx: tdvpr)
                        guard module.enter(&registers, on: lp) == .success else { continue }
                        for _ in 0..<6 {
                            registers = Registers(.memPageAccept, rcx: (dice.next() % pages) << 12)
                            _ = module.tdcall(&registers, vcpu: vcpu)
                        }
                        _ = module.exit(.externalInterrupt, vcpu: vcpu, into: &registers)
                    }
                }
            }
            group.addTask {
                var dice = SeededRandom(seed: 99)
                for _ in 0..<3_000 {
                    let gpa = (dice.next() % pages) << 12
                    if Self.call(module, 0, .memRangeBlock, gpa, tdr).status != .success { continue }
                    _ = Self.call(module, 0, .memTrack, tdr)
                    if dice.chance(50) {
                        _ = Self.call(module, 0, .memRangeUnblock, gpa, tdr)
                    } else if Self.call(module, 0, .memPageRemove, gpa, tdr).status == .success {
                        _ = Self.call(module, 0, .memPageAug, gpa, tdr, base + gpa)
                    }
                }
            }
        }
        let state = host.state(tdr)
        #expect(state.insideEven == 0 && state.insideOdd == 0 && state.associatedVCPUs == 2)
        for page in 0..<pages {
            let entry = host.entry(page << 12, tdr)
            let type = host.metadata(base + page << 12).type
            #expect((entry.state == .free) == (type == .free), "page \(page): \(entry), \(type)")
            #expect(!entry.isLocked)
        }
    }

    @Test func `large and small pages that compete for the same memory never overlap`() async throws {
        let host = try Host(Self.platform)
        var roots: [UInt64] = []
        for _ in 0..<2 {
            let (tdr, _) = try host.makeRunnable()
            try host.makeTables(tdr, 0, to: 1)
            roots.append(tdr)
        }
        // Two 2 MiB ranges; tables for demotion come from pages of each thread's own.
        let base = host.nextLarge
        host.nextLarge += 4 << 20
        let spare = (0..<4).map { _ in host.page() }
        for tdr in roots { try host.must(.memSeptAdd, rcx: 0x40_0001, rdx: tdr, r8: host.page()) }
        let module = host.module
        let before = roots.map { host.state($0).childCount }
        let wins = await withTaskGroup(of: Int.self) { group in
            for thread in 0..<4 {
                let tdr = roots[thread % 2]
                group.addTask {
                    var dice = SeededRandom(seed: UInt64(thread) + 5)
                    var wins = 0
                    func win(_ leaf: SeamcallLeaf, _ rcx: UInt64, _ r8: UInt64 = 0) {
                        let (status, _) = Self.call(module, thread, leaf, rcx, tdr, r8)
                        if status == .success { wins += 1 }
                    }
                    for _ in 0..<1_500 {
                        let large = base + (dice.next() % 2) << 21
                        let gpa = (dice.next() % 2) << 21
                        let small = (dice.next() % 8) << 12
                        switch dice.next() % 8 {
                        case 0: win(.memPageAug, gpa | 1, base + (dice.next() % 2) << 21)
                        case 1: win(.memPageAug, 0x40_0000 + small, large &+ small)
                        case 2: win(.memPageDemote, gpa | 1, spare[thread])
                        case 3: win(.memRangeBlock, gpa | 1)
                        case 4: win(.memPagePromote, gpa | 1)
                        case 5: win(.memPageRemove, gpa | 1)
                        case 6:
                            win(.memRangeBlock, 0x40_0000 + small)
                            win(.memPageRemove, 0x40_0000 + small)
                        default: _ = Self.call(module, thread, .memTrack, tdr)
                        }
                    }
                    return wins
                }
            }
            return await group.reduce(0, +)
        }
        #expect(wins > 100)
        // What each trust domain owns by the PAMT is what it counts.
        for (tdr, before) in zip(roots, before) {
            var owned: UInt64 = 0
            var at = base
            while at < base + 4 << 20 {
                let page = host.metadata(at)
                if page.type == .regular, page.owner.rawValue == tdr { owned += page.size == 1 ? 512 : 1 }
                at += page.size == 1 ? 2 << 20 : 4096
            }
            for page in spare where host.metadata(page).type == .ept && host.metadata(page).owner.rawValue == tdr {
                owned += 1
            }
            #expect(host.state(tdr).childCount == before + owned)
        }
    }

    @Test func `on trust domains of their own never meet each other`() async throws {
        let host = try Host(Self.platform)
        var roots: [(UInt64, UInt64)] = []
        for index: UInt64 in 0..<4 {
            let (tdr, _) = try host.makeRunnable()
            try host.makeTables(tdr, 0)
            roots.append((tdr, host.platform.convertibleMemory[0].start.rawValue + 1 << 30 + index << 21))
        }
        let module = host.module
        let failures = await withTaskGroup(of: Int.self) { group in
            for (thread, (tdr, base)) in roots.enumerated() {
                group.addTask {
                    var failures = 0
                    func must(_ leaf: SeamcallLeaf, _ rcx: UInt64, _ rdx: UInt64 = 0, _ r8: UInt64 = 0) {
                        if Self.call(module, thread, leaf, rcx, rdx, r8).status != .success { failures += 1 }
                    }
                    for round: UInt64 in 0..<40 {
                        for page: UInt64 in 0..<16 { must(.memPageAug, page << 12, tdr, base + (round + page) << 12) }
                        for page: UInt64 in 0..<16 { must(.memRangeBlock, page << 12, tdr) }
                        must(.memTrack, tdr)
                        for page: UInt64 in 0..<16 { must(.memPageRemove, page << 12, tdr) }
                    }
                    return failures
                }
            }
            return await group.reduce(0, +)
        }
        #expect(failures == 0)
    }
}

@Suite struct `A thousand trust domains` {
    @Test func `one after another leave the module and the process as they were`() throws {
        let host = try Host()
        let start = (host.nextPage, host.nextLarge)
        var resident = ByteCount.zero
        for cycle in 0..<1_000 {
            (host.nextPage, host.nextLarge) = start
            let (tdr, tdvpr) = try host.makeRunnable()
            try host.makeTables(tdr, 0)
            for page: UInt64 in 0..<4 { try host.must(.memPageAug, rcx: page << 12, rdx: tdr, r8: host.page()) }
            try host.must(.memPageAug, rcx: 0x20_0001, rdx: tdr, r8: host.large())
            try host.tearDown(tdr, vcpus: [tdvpr])
            if cycle == 0 { resident = host.module.residentMetadata }
        }
        #expect(host.module.population == (0, 0, 0))
        #expect(host.platform.privateKeyIDs.dropFirst().allSatisfy { host.module.keyState(KeyID($0)) == .free })
        let base = host.platform.convertibleMemory[0].start.rawValue
        for page: UInt64 in 0..<64 { #expect(host.metadata(base + page << 12).type == .free) }
        #expect(host.module.residentMetadata == resident)
        #expect(host.memory.pageCount < 64)
    }
}
