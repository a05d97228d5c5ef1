import MemoryUnits
import TDXModule

/// A second model of the module, for comparison: dictionaries, no thought of speed, one call at a time. Written from
/// the reference alone; it shares no table and no code with the module.
struct NaiveModel {
    enum Kind: UInt64 {
        case nda = 0
        case rsvd = 1
        case reg = 3
        case tdr = 4
        case tdcx = 5
        case tdvpr = 6
        case ept = 8
    }
    struct Page {
        var kind = Kind.nda
        var owner: UInt64 = 0
        var bepoch: UInt64 = 0
    }
    enum State: UInt64 {
        case free = 0
        case nlMapped = 132
        case nlBlocked = 129
        case mapped = 4
        case blocked = 1
        case pending = 2
        case pendingBlocked = 3
        /// Column in the table of reference §6.3.
        var column: Int {
            switch self {
            case .free: 0
            case .nlMapped: 2
            case .nlBlocked: 3
            case .mapped: 4
            case .blocked: 5
            case .pending: 10
            case .pendingBlocked: 11
            }
        }
        var isLeaf: Bool { [.mapped, .blocked, .pending, .pendingBlocked].contains(self) }
        var isBlocked: Bool { [.nlBlocked, .blocked, .pendingBlocked].contains(self) }
    }
    struct Entry {
        var state = State.free
        var hpa: UInt64 = 0
    }
    struct Place: Hashable {
        var level: UInt64
        var gpa: UInt64
    }
    struct TD {
        var key: UInt64
        /// 0 HKID_ASSIGNED, 1 KEYS_CONFIGURED, 2 BLOCKED, 3 TEARDOWN
        var lifecycle = 0
        var fatal = false
        var packages: Set<Int> = []
        var tdcx = 0
        var children: UInt64 = 0
        var opState = 0
        var epoch: UInt64 = 0
        var inside: [UInt64] = [0, 0]
        var vcpus = 0
        var apicIDs: Set<UInt64> = []
        var associated = 0
        var entries: [Place: Entry] = [:]
        var running: Int { Int(inside[0] + inside[1]) }
    }
    struct VCPU {
        /// 0 UNINITIALIZED, 2 READY, 4 ACTIVE, 8 DISABLED
        var state = 0
        var pages = 1
        var lp: Int?
        var epoch: UInt64 = 0
        var lastExit = 0
    }
    struct Key {
        /// 0 free, 1 assigned, 2 flushed, 3 reserved
        var state = 0
        var bitmap: Set<Int> = []
    }

    /// What the reference marks with [late].
    let isLate: Bool
    let packages: Int
    let lpsPerPackage: Int
    let memory: Range<UInt64>
    let keyRange: ClosedRange<UInt64>
    var pages: [UInt64: Page] = [:]
    /// Pages of 2 MiB by address, of 1 GiB by address.
    var larges: [UInt64: Page] = [:]
    var giants: [UInt64: Page] = [:]
    var tds: [UInt64: TD] = [:]
    var vcpus: [UInt64: VCPU] = [:]
    var keys: [UInt64: Key] = [:]
    var saved: [Int: Int] = [:]
    /// Pages that the call under way has locked.
    var held: Set<UInt64> = []

    init(_ platform: PlatformDescription) {
        isLate = platform.version == .late
        packages = platform.packages
        lpsPerPackage = platform.logicalProcessorsPerPackage
        let range = platform.convertibleMemory[0]
        memory = range.start.rawValue..<range.end.rawValue
        keyRange = UInt64(platform.privateKeyIDs.lowerBound)...UInt64(platform.privateKeyIDs.upperBound)
        keys[keyRange.lowerBound] = Key(state: 3)
    }

    // Status values, reference §3.2, as literals.
    static let invalid: UInt64 = 0xC000_0100_0000_0000
    static let range: UInt64 = 0xC000_0101_0000_0000
    static let busy: UInt64 = 0x8000_0200_0000_0000
    static let metadata: UInt64 = 0xC000_0300_0000_0000

    static let opRows: [UInt64: String] = Dictionary(
        uniqueKeysWithValues: LiteralTables.operationStates.map { (UInt64($0.0.rawValue), $0.1) })
    static let entryRows: [UInt64: String] = Dictionary(
        uniqueKeysWithValues: LiteralTables.entryStates.map { (UInt64($0.0.rawValue), $0.1) })

    func isAllowed(_ rows: [UInt64: String], _ leaf: UInt64, _ column: Int) -> Bool {
        Array(rows[leaf]!)[column] == "x"
    }

    /// The page of 1 GiB or 2 MiB that covers an address, if any is in use: its address and level.
    func cover(_ a: UInt64) -> (base: UInt64, level: UInt64)? {
        if giants[a & ~0x3FFF_FFFF]?.kind == .reg { return (a & ~0x3FFF_FFFF, 2) }
        return larges[a & ~0x1F_FFFF]?.kind == .reg ? (a & ~0x1F_FFFF, 1) : nil
    }

    func page(_ a: UInt64, _ level: UInt64) -> Page? {
        switch level {
        case 2: giants[a]
        case 1: larges[a]
        default: pages[a]
        }
    }

    mutating func change(_ a: UInt64, _ level: UInt64, _ body: (inout Page) -> Void) {
        switch level {
        case 2: body(&giants[a, default: Page()])
        case 1: body(&larges[a, default: Page()])
        default: body(&pages[a, default: Page()])
        }
    }

    /// Pages of 4 KiB in a page of this level.
    static func size(_ level: UInt64) -> UInt64 { 1 << (9 * level) }

    /// Whether a page's PAMT entry is locked in a way that an exclusive request meets.
    func isLocked(_ a: UInt64) -> Bool {
        if held.contains(a) { return true }
        guard let page = pages[a] else { return false }
        if page.kind == .tdr { return tds[a]!.running > 0 }
        if page.kind == .tdvpr { return vcpus[a]!.state == 4 }
        return false
    }

    /// C-PRIV at 4 KiB. Nil is success.
    func privatePage(_ a: UInt64, _ kind: Kind, exclusive: Bool, _ op: UInt64) -> UInt64? {
        if a & 0xFFF != 0 || a >> 46 != 0 { return Self.invalid + op }
        if !memory.contains(a) { return Self.range + op }
        if cover(a) != nil { return Self.metadata + op }
        if exclusive, isLocked(a) { return Self.busy + op }
        if !exclusive, held.contains(a), heldExclusive { return Self.busy + op }
        if (pages[a]?.kind ?? .nda) != kind { return Self.metadata + op }
        return nil
    }
    /// The call under way holds its pages exclusively.
    var heldExclusive = false

    /// C-STATE without locks.
    func stateProblem(_ td: TD, _ leaf: UInt64) -> UInt64? {
        if td.fatal { return 0xE000_0604_0000_0000 }
        if td.lifecycle != 1 { return 0x8000_0810_0000_0000 }
        if td.tdcx < 6 { return 0xC000_0606_0000_0000 }
        if !isAllowed(Self.opRows, leaf, td.opState) { return opStateIncorrect(td) }
        return nil
    }

    func opStateIncorrect(_ td: TD) -> UInt64 { 0xC000_0608_0000_0000 + (isLate ? UInt64(td.opState) : 0) }

    func isPrivateGPA(_ gpa: UInt64) -> Bool { gpa >> 47 == 0 }

    func isInfo(_ rcx: UInt64, _ least: UInt64, _ most: UInt64) -> Bool {
        let level = rcx & 7
        if rcx & 0xFF8 != 0 || rcx >> 52 != 0 || level < least || level > most { return false }
        return rcx & ~0xFFF & ((1 << (12 + 9 * level)) - 1) == 0
    }

    /// The entry where a walk ends, and its level.
    func walk(_ td: TD, _ gpa: UInt64, _ level: UInt64) -> (place: Place, entry: Entry) {
        var at: UInt64 = 3
        while true {
            let place = Place(level: at, gpa: gpa & ~((1 << (12 + 9 * at)) - 1))
            let entry = td.entries[place] ?? Entry()
            if at == level || entry.state != .nlMapped { return (place, entry) }
            at -= 1
        }
    }

    func details(_ r: inout Registers, _ place: Place, _ entry: Entry) {
        switch entry.state {
        case .free: r.rcx = 0x8000_0000_0000_0000
        case .nlMapped: r.rcx = 7
        case .nlBlocked: r.rcx = 0
        case .mapped: r.rcx = 0x8000_0000_0000_00F7 | entry.hpa
        case .blocked, .pending, .pendingBlocked: r.rcx = 0x8000_0000_0000_00F0 | entry.hpa
        }
        r.rdx = place.level | entry.state.rawValue << 8
    }

    func isTracked(_ td: TD, _ b: UInt64) -> Bool {
        if b == td.epoch &- 1 { return td.inside[Int(b & 1)] == 0 }
        return b < td.epoch &- 1
    }

    /// C-TRACK. Nil is success.
    func trackProblem(_ td: TD, _ place: Place, _ entry: Entry, _ bepoch: UInt64, _ r: inout Registers) -> UInt64? {
        guard td.opState == 2 else { return nil }
        if !entry.state.isBlocked {
            details(&r, place, entry)
            return 0xC000_0B06_0000_0001
        }
        return isTracked(td, bepoch) ? nil : 0xC000_0B08_0000_0001
    }

    func bepoch(_ place: Place, _ entry: Entry) -> UInt64 {
        page(entry.hpa, entry.state.isLeaf ? place.level : 0)!.bepoch
    }

    /// One SEAMCALL on a logical processor; RAX is the result too.
    mutating func seamcall(_ r: inout Registers, _ lp: Int) -> UInt64 {
        held = []
        heldExclusive = false
        let status = leaf(&r, lp)
        r.rax = status
        return status
    }

    private mutating func leaf(_ r: inout Registers, _ lp: Int) -> UInt64 {
        let number = r.rax & 0xFFFF
        if r.rax >> 24 != 0 { return Self.invalid }
        if r.rax >> 16 & 0xFF != 0, !([23, 3, 30, 11, 26] + (isLate ? [22, 33, 45, 53] : [])).contains(number) {
            return Self.invalid
        }
        switch number {
        case 9: return create(&r)
        case 8: return keyConfig(&r, lp)
        case 1: return addcx(&r)
        case 21: return initialize(&r)
        case 19: return vpFlushDone(&r)
        case 20: return keyFree(&r)
        case 10: return vpCreate(&r)
        case 4: return vpAddcx(&r)
        case 22: return vpInit(&r, lp)
        case 18: return vpFlush(&r, lp)
        case 0: return enter(&r, lp)
        case 17: return finalize(&r)
        case 38: return track(&r)
        case 24: return rdmd(&r)
        case 28: return reclaim(&r)
        case 41: return wbinvd(&r)
        case 40: return cacheWB(&r, lp)
        case 2: return pageAdd(&r)
        case 3, 6, 7, 39, 29, 30, 25, 23, 15, 5: return memory(number, &r)
        default: return Self.invalid
        }
    }

    private func package(_ lp: Int) -> Int { lp / lpsPerPackage }

    private mutating func create(_ r: inout Registers) -> UInt64 {
        guard keyRange.contains(r.rdx) else { return Self.invalid + 2 }
        if let problem = privatePage(r.rcx, .nda, exclusive: true, 1) { return problem }
        if keys[r.rdx, default: Key()].state != 0 { return 0xC000_0820_0000_0000 }
        tds[r.rcx] = TD(key: r.rdx)
        keys[r.rdx] = Key(state: 1)
        pages[r.rcx] = Page(kind: .tdr)
        return 0
    }

    private mutating func keyConfig(_ r: inout Registers, _ lp: Int) -> UInt64 {
        if let problem = privatePage(r.rcx, .tdr, exclusive: true, 1) { return problem }
        if tds[r.rcx]!.fatal { return 0xE000_0604_0000_0000 }
        if tds[r.rcx]!.lifecycle != 0 { return 0xC000_0607_0000_0000 }
        if !tds[r.rcx]!.packages.insert(package(lp)).inserted { return 0x0000_0815_0000_0000 }
        if tds[r.rcx]!.packages.count == packages { tds[r.rcx]!.lifecycle = 1 }
        return 0
    }

    private mutating func addcx(_ r: inout Registers) -> UInt64 {
        if let problem = privatePage(r.rdx, .tdr, exclusive: true, 2) { return problem }
        held = [r.rdx]
        let td = tds[r.rdx]!
        if td.fatal { return 0xE000_0604_0000_0000 }
        if td.lifecycle != 1 { return 0x8000_0810_0000_0000 }
        if td.tdcx > 8 { return 0xC000_0610_0000_0000 }
        if let problem = privatePage(r.rcx, .nda, exclusive: true, 1) { return problem }
        if td.tdcx > 5, td.opState != 0 { return opStateIncorrect(td) }
        tds[r.rdx]!.tdcx += 1
        tds[r.rdx]!.children += 1
        pages[r.rcx] = Page(kind: .tdcx, owner: r.rdx)
        return 0
    }

    /// TD_PARAMS are always good; their address need not be.
    private mutating func initialize(_ r: inout Registers) -> UInt64 {
        let root = r.rcx
        r.rcx = 0
        if let problem = privatePage(root, .tdr, exclusive: true, 1) { return problem }
        if let problem = stateProblem(tds[root]!, 21) { return problem }
        if r.rdx & 1023 != 0 || r.rdx >> 52 != 0 || r.rdx >> 46 >= keyRange.lowerBound { return Self.invalid + 2 }
        tds[root]!.opState = 1
        tds[root]!.epoch = 1
        return 0
    }

    private mutating func vpFlushDone(_ r: inout Registers) -> UInt64 {
        if let problem = privatePage(r.rcx, .tdr, exclusive: true, 1) { return problem }
        let td = tds[r.rcx]!
        if td.lifecycle > 1 { return 0xC000_0607_0000_0000 }
        if td.tdcx >= 6, td.opState != 0, td.associated != 0 { return 0x8000_0824_0000_0000 }
        tds[r.rcx]!.lifecycle = 2
        keys[td.key] = Key(state: 2, bitmap: Set(0..<packages))
        return 0
    }

    private mutating func keyFree(_ r: inout Registers) -> UInt64 {
        if let problem = privatePage(r.rcx, .tdr, exclusive: true, 1) { return problem }
        let td = tds[r.rcx]!
        if td.lifecycle != 2 { return 0xC000_0607_0000_0000 }
        if !keys[td.key]!.bitmap.isEmpty { return 0x8000_0817_0000_0000 }
        keys[td.key] = Key()
        tds[r.rcx]!.lifecycle = 3
        return 0
    }

    private mutating func vpCreate(_ r: inout Registers) -> UInt64 {
        if let problem = privatePage(r.rdx, .tdr, exclusive: false, 2) { return problem }
        held = [r.rdx]
        if let problem = stateProblem(tds[r.rdx]!, 10) { return problem }
        if let problem = privatePage(r.rcx, .nda, exclusive: true, 1) { return problem }
        vcpus[r.rcx] = VCPU()
        pages[r.rcx] = Page(kind: .tdvpr, owner: r.rdx)
        tds[r.rdx]!.children += 1
        return 0
    }

    private mutating func vpAddcx(_ r: inout Registers) -> UInt64 {
        if let problem = privatePage(r.rdx, .tdvpr, exclusive: true, 2) { return problem }
        let owner = pages[r.rdx]!.owner
        held = [r.rdx, owner]
        if let problem = stateProblem(tds[owner]!, 4) { return problem }
        if vcpus[r.rdx]!.state != 0 { return 0xC000_0700_0000_0000 }
        if vcpus[r.rdx]!.pages >= 15 { return 0xC000_0610_0000_0000 }
        if let problem = privatePage(r.rcx, .nda, exclusive: true, 1) { return problem }
        vcpus[r.rdx]!.pages += 1
        tds[owner]!.children += 1
        pages[r.rcx] = Page(kind: .tdcx, owner: owner)
        return 0
    }

    private mutating func vpInit(_ r: inout Registers, _ lp: Int) -> UInt64 {
        if let problem = privatePage(r.rcx, .tdvpr, exclusive: true, 1) { return problem }
        let owner = pages[r.rcx]!.owner
        let version = r.rax >> 16 & 0xFF
        if version > 1 { return Self.invalid }
        // Version 1 looks at all of the trust domain's ids.
        if version == 1, tds[owner]!.running > 0 { return Self.busy + 128 }
        if let problem = stateProblem(tds[owner]!, 22) { return problem }
        if vcpus[r.rcx]!.pages < 6 { return 0xC000_0610_0000_0000 }
        if vcpus[r.rcx]!.state != 0 { return 0xC000_0700_0000_0000 }
        if tds[owner]!.vcpus >= 8 { return 0xC000_0705_0000_0000 }
        if version == 1 {
            if r.r8 >> 32 != 0 { return Self.invalid + 8 }
            if !tds[owner]!.apicIDs.insert(r.r8).inserted { return 0xC000_0621_0000_0000 + r.r8 }
        }
        vcpus[r.rcx]!.state = 2
        vcpus[r.rcx]!.lp = lp
        tds[owner]!.vcpus += 1
        tds[owner]!.associated += 1
        return 0
    }

    private mutating func vpFlush(_ r: inout Registers, _ lp: Int) -> UInt64 {
        if let problem = privatePage(r.rcx, .tdvpr, exclusive: true, 1) { return problem }
        let owner = pages[r.rcx]!.owner
        if tds[owner]!.lifecycle != 1 { return 0x8000_0810_0000_0000 }
        if vcpus[r.rcx]!.pages < 6 { return 0xC000_0610_0000_0000 }
        if vcpus[r.rcx]!.lp != lp { return 0x8000_0702_0000_0000 }
        vcpus[r.rcx]!.lp = nil
        tds[owner]!.associated -= 1
        return 0
    }

    /// The vCPU stays inside on success.
    private mutating func enter(_ r: inout Registers, _ lp: Int) -> UInt64 {
        if r.rcx >> 54 != 0 || r.rcx & 0xFFF != 0 { return Self.invalid + 1 }
        let tdvpr = r.rcx & 0x000F_FFFF_FFFF_F000
        if let problem = privatePage(tdvpr, .tdvpr, exclusive: false, 1) { return problem }
        let owner = pages[tdvpr]!.owner
        if let problem = stateProblem(tds[owner]!, 0) { return problem }
        let vcpu = vcpus[tdvpr]!
        if vcpu.pages < 6 { return 0xC000_0610_0000_0000 }
        if vcpu.state != 2 { return 0xC000_0700_0000_0000 }
        if vcpu.lp != nil, vcpu.lp != lp { return 0x8000_0701_0000_0000 }
        // The vCPU is associated before its flags are looked at.
        if vcpu.lp == nil { tds[owner]!.associated += 1 }
        vcpus[tdvpr]!.lp = lp
        if r.rcx >> 52 & 1 != 0, vcpu.lastExit != 1 { return Self.invalid + 1 }
        // Nothing is to be resumed but L1.
        if r.rcx >> 53 & 1 != 0 { return Self.invalid + 1 }
        vcpus[tdvpr]!.state = 4
        vcpus[tdvpr]!.epoch = tds[owner]!.epoch
        tds[owner]!.inside[Int(tds[owner]!.epoch & 1)] += 1
        return 0
    }

    /// An external interrupt takes a vCPU out; false when it is not inside.
    mutating func exit(_ tdvpr: UInt64) -> Bool {
        guard pages[tdvpr]?.kind == .tdvpr, vcpus[tdvpr]!.state == 4 else { return false }
        let owner = pages[tdvpr]!.owner
        vcpus[tdvpr]!.state = 2
        vcpus[tdvpr]!.lastExit = 0
        tds[owner]!.inside[Int(vcpus[tdvpr]!.epoch & 1)] -= 1
        return true
    }

    private mutating func finalize(_ r: inout Registers) -> UInt64 {
        if let problem = privatePage(r.rcx, .tdr, exclusive: true, 1) { return problem }
        if let problem = stateProblem(tds[r.rcx]!, 17) { return problem }
        if tds[r.rcx]!.vcpus == 0 { return 0xC000_0609_0000_0000 }
        tds[r.rcx]!.opState = 2
        return 0
    }

    private mutating func track(_ r: inout Registers) -> UInt64 {
        if let problem = privatePage(r.rcx, .tdr, exclusive: false, 1) { return problem }
        if let problem = stateProblem(tds[r.rcx]!, 38) { return problem }
        if tds[r.rcx]!.inside[Int((tds[r.rcx]!.epoch + 1) & 1)] != 0 { return 0x8000_0201_0000_0000 }
        tds[r.rcx]!.epoch += 1
        return 0
    }

    private func rdmd(_ r: inout Registers) -> UInt64 {
        if r.rcx & 0xFFF != 0 || r.rcx >> 46 != 0 { return Self.invalid + 1 }
        if !memory.contains(r.rcx) { return Self.range + 1 }
        let large = cover(r.rcx)
        let page = page(large?.base ?? r.rcx, large?.level ?? 0) ?? Page()
        r.rcx = page.kind.rawValue
        // Only 1.5.01 leaves the former owner to be seen.
        r.rdx = isLate && page.kind == .nda ? 0 : page.owner
        r.r8 = large?.level ?? 0
        r.r9 = page.kind == .reg || page.kind == .ept ? page.bepoch : 0
        r.r10 = 0
        r.r11 = 0
        return 0
    }

    private mutating func reclaim(_ r: inout Registers) -> UInt64 {
        let a = r.rcx
        (r.rcx, r.rdx, r.r8, r.r9, r.r10, r.r11) = (0, 0, 0, 0, 0, 0)
        if a & 0xFFF != 0 || a >> 46 != 0 { return Self.invalid + 1 }
        if !memory.contains(a) { return Self.range + 1 }
        let large = cover(a)
        if large == nil, isLocked(a) { return Self.busy + 1 }
        let page = page(large?.base ?? a, large?.level ?? 0) ?? Page()
        if page.kind == .nda || page.kind == .rsvd { return Self.metadata + 1 }
        r.rcx = page.kind.rawValue
        r.rdx = page.owner
        r.r8 = large?.level ?? 0
        if let large, large.base != a { return Self.invalid + 1 }
        if page.kind == .tdr {
            if tds[a]!.lifecycle != 3 { return 0xC000_0607_0000_0000 }
            if tds[a]!.children != 0 { return 0xC000_0400_0000_0000 }
            tds[a] = nil
        } else {
            if tds[page.owner]!.lifecycle != 3 { return 0xC000_0607_0000_0000 }
            tds[page.owner]!.children -= Self.size(large?.level ?? 0)
            if page.kind == .tdvpr { vcpus[a] = nil }
        }
        change(a, large?.level ?? 0) { $0.kind = .nda }
        return 0
    }

    private func wbinvd(_ r: inout Registers) -> UInt64 {
        if r.rcx >> 52 != 0 { return Self.invalid + 1 }
        return privatePage(r.rcx & ((1 << 46) - 1), .nda, exclusive: false, 1) ?? 0
    }

    private mutating func cacheWB(_ r: inout Registers, _ lp: Int) -> UInt64 {
        if r.rcx > 1 { return Self.invalid + 1 }
        if r.rcx == 1 { return 0xC000_0823_0000_0000 }
        let flushed = keys.filter { $0.value.state == 2 }.map(\.key)
        if flushed.isEmpty { return 0x0000_0821_0000_0000 }
        for key in flushed { keys[key]!.bitmap.remove(package(lp)) }
        return 0
    }

    private mutating func pageAdd(_ r: inout Registers) -> UInt64 {
        let (target, root, page, source) = (r.rcx, r.rdx, r.r8, r.r9)
        (r.rcx, r.rdx) = (0, 0)
        if let problem = privatePage(root, .tdr, exclusive: true, 2) { return problem }
        held = [root]
        if let problem = stateProblem(tds[root]!, 2) { return problem }
        if !isInfo(target, 0, 0) || !isPrivateGPA(target) { return Self.invalid + 1 }
        let (place, entry) = walk(tds[root]!, target, 0)
        if place.level != 0 {
            details(&r, place, entry)
            return 0xC000_0B00_0000_0001
        }
        if entry.state != .free {
            details(&r, place, entry)
            return 0xC000_0B0D_0000_0001
        }
        if source & 0xFFF != 0 || source >> 52 != 0 || source >> 46 >= keyRange.lowerBound { return Self.invalid + 9 }
        if let problem = privatePage(page, .nda, exclusive: true, 8) { return problem }
        tds[root]!.entries[place] = Entry(state: .mapped, hpa: page)
        tds[root]!.children += 1
        pages[page] = Page(kind: .reg, owner: root)
        return 0
    }
}
