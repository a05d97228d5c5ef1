import TDXModule

/// The naive model's leaves on the Secure EPT of a trust domain that is held shared, and the guest's ACCEPT.
extension NaiveModel {
    mutating func memory(_ leaf: UInt64, _ r: inout Registers) -> UInt64 {
        let version = r.rax >> 16 & 0xFF
        let (target, operand) = (r.rcx, r.rdx)
        (r.rcx, r.rdx) = (0, 0)
        // SEPT.REMOVE and PROMOTE return pages of nested machines, of which there are none.
        if version > 0, leaf == 30 || leaf == 23 { (r.r9, r.r10, r.r11) = (.max, .max, .max) }
        if version > 1 { return Self.invalid }
        // SEPT.ADD returns the pages that it did not use; bit 63 of an input means nothing.
        let given = r.r8 == .max ? r.r8 : r.r8 & ~(1 << 63)
        if leaf == 3, version == 1 {
            r.r8 = given
            if r.r9 != .max { r.r9 &= ~(1 << 63) }
            if r.r10 != .max { r.r10 &= ~(1 << 63) }
            if r.r11 != .max { r.r11 &= ~(1 << 63) }
        }
        // SEPT.ADD and DEMOTE have a flag in bit 0 of RDX and check its other bits first; SEPT.RD has one too.
        let hasFlag = leaf == 3 || leaf == 15
        if hasFlag, operand & 0xFFE != 0 || operand >> 52 != 0 { return Self.invalid + 2 }
        let root = hasFlag || leaf == 25 ? operand & ~1 : operand
        if let problem = privatePage(root, .tdr, exclusive: false, 2) { return problem }
        held = [root]
        if let problem = stateProblem(tds[root]!, leaf) { return problem }
        if leaf == 25, operand & 1 != 0 { return Self.invalid + 2 }
        let levels: (UInt64, UInt64) =
            switch leaf {
            case 3, 30: (1, 3)
            case 6: (0, 1)
            case 29: (0, 2)
            case 23, 15: (1, 2)
            case 5: (0, 0)
            default: (0, 3)
            }
        if !isInfo(target, levels.0, levels.1) || !isPrivateGPA(target & ~0xFFF) { return Self.invalid + 1 }
        let level = target & 7
        let (place, entry) = walk(tds[root]!, target & ~0xFFF, level)
        if place.level != level {
            details(&r, place, entry)
            return 0xC000_0B00_0000_0001
        }
        if !isAllowed(Self.entryRows, leaf, entry.state.column) {
            details(&r, place, entry)
            return leaf == 7 && entry.state.isBlocked ? 0x0000_0B07_0000_0001 : 0xC000_0B0D_0000_0001
        }
        switch leaf {
        case 3: return septAdd(&r, root, place, entry, given, allowsExisting: operand & 1 != 0, version)
        case 6: return aug(&r, root, place)
        case 7: return block(root, place, entry)
        case 39: return unblock(root, place, entry)
        case 29: return remove(&r, root, place, entry)
        case 30: return septRemove(&r, root, place, entry)
        case 23: return promote(&r, root, place, entry)
        case 15: return demote(&r, root, place, entry)
        case 5: return relocate(&r, root, place, entry)
        default:
            details(&r, place, entry)
            r.r8 = 0
            return 0
        }
    }

    private mutating func septAdd(
        _ r: inout Registers, _ root: UInt64, _ place: Place, _ entry: Entry, _ page: UInt64, allowsExisting: Bool,
        _ version: UInt64
    ) -> UInt64 {
        if page == .max {
            if version == 0 { return Self.invalid + 8 }
            if entry.state != .nlMapped {
                details(&r, place, entry)
                return 0xC000_0B0D_0000_0001
            }
        }
        if entry.state == .free {
            if let problem = privatePage(page, .nda, exclusive: true, 8) { return problem }
        } else if page != .max {
            if !allowsExisting {
                details(&r, place, entry)
                return 0xC000_0B0D_0000_0001
            }
            if version == 1 { r.r8 = page | 1 << 63 }
        }
        if version == 1 {
            for (value, id) in [(r.r9, 9 as UInt64), (r.r10, 10), (r.r11, 11)] where value != .max {
                return Self.invalid + id
            }
        }
        if entry.state == .free {
            tds[root]!.entries[place] = Entry(state: .nlMapped, hpa: page)
            tds[root]!.children += 1
            pages[page] = Page(kind: .ept, owner: root)
            if version == 1 { r.r8 = .max }
        }
        return 0
    }

    private mutating func aug(_ r: inout Registers, _ root: UInt64, _ place: Place) -> UInt64 {
        let page = r.r8
        if place.level == 0 {
            if let problem = privatePage(page, .nda, exclusive: true, 8) { return problem }
            pages[page] = Page(kind: .reg, owner: root)
            tds[root]!.children += 1
        } else {
            if page & 0x1F_FFFF != 0 || page >> 46 != 0 { return Self.invalid + 8 }
            if !memory.contains(page) { return Self.range + 8 }
            if held.contains(where: { $0 & ~0x1F_FFFF == page }) { return Self.busy + 8 }
            let inside = pages.filter { $0.key & ~0x1F_FFFF == page }
            if inside.contains(where: { isLocked($0.key) }) { return Self.busy + 8 }
            if cover(page) != nil || inside.contains(where: { $0.value.kind != .nda }) { return Self.metadata + 8 }
            larges[page] = Page(kind: .reg, owner: root)
            tds[root]!.children += 512
        }
        tds[root]!.entries[place] = Entry(state: .pending, hpa: page)
        return 0
    }

    private mutating func block(_ root: UInt64, _ place: Place, _ entry: Entry) -> UInt64 {
        let new: State =
            switch entry.state {
            case .nlMapped: .nlBlocked
            case .mapped: .blocked
            default: .pendingBlocked
            }
        tds[root]!.entries[place]!.state = new
        let epoch = tds[root]!.epoch
        change(entry.hpa, entry.state.isLeaf ? place.level : 0) { $0.bepoch = epoch }
        return 0
    }

    private func unblocked(_ state: State) -> State {
        switch state {
        case .nlBlocked: .nlMapped
        case .blocked: .mapped
        case .pendingBlocked: .pending
        default: state
        }
    }

    private mutating func unblock(_ root: UInt64, _ place: Place, _ entry: Entry) -> UInt64 {
        if tds[root]!.opState == 2, !isTracked(tds[root]!, bepoch(place, entry)) { return 0xC000_0B08_0000_0092 }
        tds[root]!.entries[place]!.state = unblocked(entry.state)
        return 0
    }

    private mutating func remove(_ r: inout Registers, _ root: UInt64, _ place: Place, _ entry: Entry) -> UInt64 {
        if let problem = trackProblem(tds[root]!, place, entry, bepoch(place, entry), &r) { return problem }
        tds[root]!.entries[place] = nil
        change(entry.hpa, place.level) { $0.kind = .nda }
        tds[root]!.children -= Self.size(place.level)
        r.rcx = entry.hpa
        return 0
    }

    /// The 512 places below a table's entry.
    private func below(_ place: Place) -> [Place] {
        let size: UInt64 = 1 << (12 + 9 * (place.level - 1))
        return (0..<512).map { Place(level: place.level - 1, gpa: place.gpa + $0 * size) }
    }

    private mutating func septRemove(_ r: inout Registers, _ root: UInt64, _ place: Place, _ entry: Entry) -> UInt64 {
        if let problem = trackProblem(tds[root]!, place, entry, pages[entry.hpa]!.bepoch, &r) { return problem }
        if below(place).contains(where: { tds[root]!.entries[$0] != nil }) {
            details(&r, place, entry)
            return 0xC000_0B0E_0000_0001
        }
        tds[root]!.entries[place] = nil
        pages[entry.hpa]!.kind = .nda
        tds[root]!.children -= 1
        r.rcx = entry.hpa
        return 0
    }

    private mutating func promote(_ r: inout Registers, _ root: UInt64, _ place: Place, _ entry: Entry) -> UInt64 {
        if let problem = trackProblem(tds[root]!, place, entry, pages[entry.hpa]!.bepoch, &r) { return problem }
        let children = below(place).map { tds[root]!.entries[$0] ?? Entry() }
        let first = children[0]
        let step = Self.size(place.level - 1) << 12
        let isUniform =
            (first.state == .mapped || first.state == .pending) && first.hpa & (512 * step - 1) == 0
            && children.enumerated().allSatisfy {
                $0.element.state == first.state && $0.element.hpa == first.hpa + UInt64($0.offset) * step
            }
        if !isUniform {
            details(&r, place, entry)
            return 0xC000_0B09_0000_0001
        }
        for child in below(place) { tds[root]!.entries[child] = nil }
        for child in children { change(child.hpa, place.level - 1) { $0.kind = .nda } }
        // The epoch of the large page's last block stays.
        change(first.hpa, place.level) { ($0.kind, $0.owner) = (.reg, root) }
        tds[root]!.entries[place] = first
        pages[entry.hpa]!.kind = .nda
        tds[root]!.children -= 1
        r.rcx = entry.hpa
        return 0
    }

    private mutating func demote(_ r: inout Registers, _ root: UInt64, _ place: Place, _ entry: Entry) -> UInt64 {
        if let problem = trackProblem(tds[root]!, place, entry, bepoch(place, entry), &r) { return problem }
        if let problem = privatePage(r.r8, .nda, exclusive: true, 8) { return problem }
        change(entry.hpa, place.level) { $0.kind = .nda }
        for (index, child) in below(place).enumerated() {
            let hpa = entry.hpa + UInt64(index) * Self.size(place.level - 1) << 12
            tds[root]!.entries[child] = Entry(state: unblocked(entry.state), hpa: hpa)
            change(hpa, place.level - 1) { $0 = Page(kind: .reg, owner: root) }
        }
        pages[r.r8] = Page(kind: .ept, owner: root)
        tds[root]!.entries[place] = Entry(state: .nlMapped, hpa: r.r8)
        tds[root]!.children += 1
        r.r9 |= 1 << 63
        r.r10 |= 1 << 63
        r.r11 |= 1 << 63
        return 0
    }

    private mutating func relocate(_ r: inout Registers, _ root: UInt64, _ place: Place, _ entry: Entry) -> UInt64 {
        let page = r.r8
        if page == entry.hpa { return Self.invalid + 8 }
        if let problem = trackProblem(tds[root]!, place, entry, bepoch(place, entry), &r) { return problem }
        if let problem = privatePage(page, .nda, exclusive: true, 8) { return problem }
        pages[entry.hpa]!.kind = .nda
        pages[page] = Page(kind: .reg, owner: root)
        tds[root]!.entries[place] = Entry(state: unblocked(entry.state), hpa: page)
        r.rcx = entry.hpa
        return 0
    }

    /// TDG.MEM.PAGE.ACCEPT on a vCPU: nil when none is inside there, "exit" as `.max`.
    mutating func accept(_ target: UInt64, _ tdvpr: UInt64) -> UInt64? {
        guard pages[tdvpr]?.kind == .tdvpr, vcpus[tdvpr]!.state == 4 else { return nil }
        let root = pages[tdvpr]!.owner
        if !isInfo(target, 0, 1) || !isPrivateGPA(target & ~0xFFF) { return Self.invalid + 1 }
        let (place, entry) = walk(tds[root]!, target & ~0xFFF, target & 7)
        if place.level != target & 7 { return entry.state == .mapped ? 0x0000_0B0A_0000_0000 + place.level : .max }
        switch entry.state {
        case .nlMapped, .nlBlocked: return 0xC000_0B0B_0000_0000 + place.level
        case .mapped: return 0x0000_0B0A_0000_0000 + place.level
        case .pending:
            tds[root]!.entries[place]!.state = .mapped
            return 0
        default: return .max
        }
    }
}
