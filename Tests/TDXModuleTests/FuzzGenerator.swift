import MemoryUnits
import TDXModule
import TestSupport

/// Chooses steps: mostly such that they get somewhere, often with one operand from a small pool of bad ones.
struct FuzzGenerator {
    var dice: SeededRandom
    let base = Pair.platform.convertibleMemory[0].start.rawValue
    /// Steps that are to come before anything else is chosen.
    private var planned: [FuzzStep] = []
    /// A page of 1 GiB is put together at most once in a sequence: that takes 512 steps.
    private var mayBuildGiant = true
    private static let giant: UInt64 = 0x8000_0000

    init(seed: UInt64) { dice = SeededRandom(seed: seed) }

    /// Small pages: 96 in the first 2 MiB. Large ranges: four more.
    private mutating func anyPage() -> UInt64 { base + (dice.next() % 96) << 12 }
    private mutating func anyLarge() -> UInt64 { base + (1 + dice.next() % 4) << 21 }
    private mutating func badAddress() -> UInt64 {
        dice.pick([
            0, 0x1000, 1, anyPage() + 0x800, anyPage() | 33 << 46, .max, 1 << 52, anyLarge(), anyLarge() + 0x3000,
            anyPage(), base + 1 << 30, base + 2 << 30, anyPage(), anyPage(),
        ])
    }
    /// A page that is free now, if one is found soon.
    private mutating func freePage(_ naive: NaiveModel) -> UInt64 {
        for _ in 0..<12 {
            let page = anyPage()
            if (naive.pages[page]?.kind ?? .nda) == .nda { return page }
        }
        return anyPage()
    }
    private mutating func gpa(_ level: UInt64) -> UInt64 {
        let size: UInt64 = 1 << (12 + 9 * level)
        let place = dice.pick(
            [0, 0x1000, 0x2000, 0x20_0000, 0x20_3000, 0x40_0000, 0x4000_0000, 0x4000_5000, Self.giant] as [UInt64])
        return place & ~(size - 1) | level
    }

    private func call(
        _ leaf: SeamcallLeaf, _ lp: Int = 0, version: UInt8 = 0, _ rcx: UInt64 = 0, _ rdx: UInt64 = 0,
        _ r8: UInt64 = 0, _ r9: UInt64 = 0
    ) -> FuzzStep {
        .call(Registers(leaf, version: version, rcx: rcx, rdx: rdx, r8: r8, r9: r9), lp)
    }

    mutating func next(_ naive: NaiveModel) -> FuzzStep {
        if let step = planned.popLast() { return step }
        var step = choose(naive)
        if case .call(var r, let lp) = step, dice.chance(8) {
            switch dice.next() % 5 {
            case 0: r.rcx = badAddress()
            case 1: r.rdx = badAddress()
            case 2: r.r8 = badAddress()
            case 3: r.rax |= dice.pick([1 << 16, 2 << 16, 1 << 24, 1 << 63, 0x80])
            default: r.rcx ^= 1 << (dice.next() % 64)
            }
            step = .call(r, lp)
        }
        return step
    }

    private mutating func choose(_ naive: NaiveModel) -> FuzzStep {
        let roots = naive.tds.keys.sorted()
        let lp = Int(dice.next() % 4)
        if roots.isEmpty || (roots.count < 3 && dice.chance(3)) {
            let key = UInt64(Pair.platform.privateKeyIDs.lowerBound) + dice.next() % 6
            return call(.mngCreate, lp, freePage(naive), key)
        }
        let tdr = dice.pick(roots)
        let td = naive.tds[tdr]!
        let mine = naive.vcpus.keys.sorted().filter { naive.pages[$0]!.owner == tdr }
        switch td.lifecycle {
        case 0: return dice.chance(96) ? call(.mngKeyConfig, lp, tdr) : call(.mngVpflushdone, lp, tdr)
        case 2: return dice.chance(60) ? call(.phymemCacheWb, lp) : call(.mngKeyFreeid, lp, tdr)
        case 3:
            // Pages that still belong to it, and in the end its root.
            let owned =
                (naive.pages.filter { $0.value.owner == tdr && $0.value.kind != .nda }.keys
                    .sorted() + naive.larges.filter { $0.value.owner == tdr && $0.value.kind == .reg }.keys.sorted()
                    + naive.giants.filter { $0.value.owner == tdr && $0.value.kind == .reg }.keys.sorted())
            return call(.phymemPageReclaim, lp, owned.isEmpty || dice.chance(5) ? tdr : dice.pick(owned))
        default: break
        }
        if td.tdcx < 6 { return call(.mngAddcx, lp, freePage(naive), tdr) }
        if td.opState == 0 {
            return dice.chance(90)
                ? call(.mngInit, lp, tdr, Pair.parameters) : call(.mngAddcx, lp, freePage(naive), tdr)
        }
        if let young = mine.first(where: { naive.vcpus[$0]!.state == 0 }), dice.chance(40), td.opState == 1 {
            return naive.vcpus[young]!.pages < 6
                ? call(.vpAddcx, lp, freePage(naive), young)
                : naive.isLate && dice.chance(70)
                    ? call(.vpInit, lp, version: 1, young, 7, dice.pick([0, 1, 1, 0xFFFF_FFFF, 1 << 32]))
                    : call(.vpInit, lp, young, 7)
        }
        if mine.isEmpty || (mine.count < 2 && dice.chance(3)) { return call(.vpCreate, lp, freePage(naive), tdr) }
        if td.opState == 1, dice.chance(6) { return call(.mrFinalize, lp, tdr) }
        return memoryStep(naive, tdr, dice.pick(mine), lp)
    }

    /// Everything that a page of 1 GiB needs, last step first; and what is then done to it.
    private mutating func buildGiant(_ tdr: UInt64, _ lp: Int) -> FuzzStep {
        mayBuildGiant = false
        let end: [FuzzStep] = [
            call(.memPagePromote, lp, Self.giant | 2, tdr), call(.memTrack, lp, tdr), call(.memTrack, lp, tdr),
            call(.memRangeBlock, lp, Self.giant | 2, tdr),
        ]
        let pages = (0..<512).map { index in
            call(.memPageAug, lp, (Self.giant + index << 21) | 1, tdr, base + 1 << 30 + index << 21)
        }
        planned = end + pages.reversed()
        planned.append(call(.memSeptAdd, lp, Self.giant | 2, tdr, base + 97 << 12))
        return call(.memSeptAdd, lp, 3, tdr, base + 98 << 12)
    }

    private mutating func giantStep(_ naive: NaiveModel, _ tdr: UInt64, _ lp: Int) -> FuzzStep {
        let target = Self.giant | 2
        switch dice.next() % 8 {
        case 0: return call(.memRangeBlock, lp, target, tdr)
        case 1: return call(.memRangeUnblock, lp, target, tdr)
        case 2: return call(.memPageRemove, lp, target, tdr)
        case 3: return call(.memPageDemote, lp, target, tdr, freePage(naive))
        case 4: return call(.memPagePromote, lp, target, tdr)
        case 5: return call(.memPageAug, lp, Self.giant | 1, tdr, base + 1 << 30 + (dice.next() % 512) << 21)
        case 6: return call(.phymemPageReclaim, lp, base + 1 << 30 + (dice.next() % 2) << 21)
        default: return call(.phymemPageRdmd, lp, base + 1 << 30 + (dice.next() % (1 << 18)) << 12)
        }
    }

    private mutating func memoryStep(_ naive: NaiveModel, _ tdr: UInt64, _ tdvpr: UInt64, _ lp: Int) -> FuzzStep {
        if mayBuildGiant, dice.chance(1), dice.chance(30) { return buildGiant(tdr, lp) }
        if !mayBuildGiant, dice.chance(6) { return giantStep(naive, tdr, lp) }
        switch dice.next() % 100 {
        case 0..<12:
            return call(
                .memSeptAdd, lp, gpa(dice.pick([1, 1, 2, 3])), tdr | (dice.chance(10) ? 1 : 0), freePage(naive))
        case 12..<27: return call(.memPageAug, lp, gpa(0), tdr, freePage(naive))
        case 27..<31: return call(.memPageAug, lp, gpa(1), tdr, anyLarge())
        case 31..<36: return call(.memPageAdd, lp, gpa(0), tdr, freePage(naive), 0x3000)
        case 36..<46: return call(.memRangeBlock, lp, gpa(dice.pick([0, 0, 0, 1, 1, 2])), tdr)
        case 46..<51: return call(.memRangeUnblock, lp, gpa(dice.pick([0, 0, 1, 2])), tdr)
        case 51..<58: return call(.memTrack, lp, tdr)
        case 58..<66: return call(.memPageRemove, lp, gpa(dice.pick([0, 0, 0, 1])), tdr)
        case 66..<68: return call(.memSeptRemove, lp, gpa(dice.pick([1, 1, 2])), tdr)
        case 68..<70: return call(.memSeptRd, lp, gpa(dice.pick([0, 1, 2])), tdr)
        case 70..<72: return call(.memPageRelocate, lp, gpa(0), tdr, freePage(naive))
        case 72..<75:
            let target = gpa(1)
            if dice.chance(50) {
                // And merge it again, last planned first.
                planned += [call(.memPagePromote, lp, target, tdr), call(.memTrack, lp, tdr)]
                planned.append(call(.memRangeBlock, lp, target, tdr))
            }
            return call(.memPageDemote, lp, target, tdr, freePage(naive))
        case 75..<76: return call(.memPagePromote, lp, gpa(1), tdr)
        case 76..<80: return call(.vpEnter, naive.vcpus[tdvpr]!.lp ?? lp, tdvpr)
        case 80..<84: return .exit(tdvpr)
        case 84..<92: return .accept(gpa(dice.pick([0, 0, 1])), vcpu: tdvpr)
        case 92..<94:
            return call(.phymemPageRdmd, lp, dice.chance(50) ? anyPage() : anyLarge() + (dice.next() % 512) << 12)
        case 94..<95: return call(.phymemPageWbinvd, lp, anyPage() | (dice.next() % 40) << 46)
        case 95..<96: return call(.vpFlush, naive.vcpus[tdvpr]!.lp ?? lp, tdvpr)
        case 96..<97: return call(.phymemPageReclaim, lp, anyPage())
        case 97..<98:
            // The end: everybody out, flush, and on.
            if dice.chance(25) { endOf(naive, tdr) }
            return call(.memTrack, lp, tdr)
        case 98..<99: return call(.phymemCacheWb, lp, dice.next() % 3)
        default: return call(.memPagePromote, lp, version: 1, gpa(dice.pick([1, 2])), tdr)
        }
    }

    private mutating func endOf(_ naive: NaiveModel, _ tdr: UInt64) {
        planned.append(call(.mngVpflushdone, 0, tdr))
        for (vcpu, state) in naive.vcpus where naive.pages[vcpu]!.owner == tdr {
            planned.append(call(.vpFlush, state.lp ?? 0, vcpu))
            planned.append(.exit(vcpu))
        }
    }
}
