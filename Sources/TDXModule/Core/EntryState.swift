/// The state of a Secure-EPT entry; the raw value is its index in the tables of reference §6.1 and §6.3.
@frozen
public enum EntryState: UInt8, Hashable, Sendable, CaseIterable {
    case free = 0
    case removed = 1
    case tableMapped = 2
    case tableBlocked = 3
    case mapped = 4
    case blocked = 5
    case blockedForWriting = 6
    case exportedBlockedForWriting = 7
    case exportedDirty = 8
    case exportedDirtyBlockedForWriting = 9
    case pending = 10
    case pendingBlocked = 11
    case pendingBlockedForWriting = 12
    case pendingExportedBlockedForWriting = 13
    case pendingExportedDirty = 14
    case pendingExportedDirtyBlockedForWriting = 15
}

/// One row of the table of states (reference §6.1).
struct EntryStateRow: Sendable {
    var state: EntryState
    /// The 7-bit code: entry bit 9, bits 56:53, bits 7:6.
    var code: UInt8
    /// What MEM.SEPT.RD and details show in RDX bits 15:8.
    var publicValue: UInt8
    var needsTracking: Bool
    /// Read, write and execute in bits 2:0 while in this state.
    var rights: UInt64

    static let all: [EntryStateRow] = [
        row(.free, 0x0E, 0, false),
        row(.removed, 0x0C, 5, false),
        row(.tableMapped, 0x00, 132, true, rights: 7),
        row(.tableBlocked, 0x08, 129, true),
        row(.mapped, 0x60, 4, true, rights: 7),
        row(.blocked, 0x68, 1, true),
        row(.blockedForWriting, 0x64, 8, true, rights: 5),
        row(.exportedBlockedForWriting, 0x66, 9, false, rights: 5),
        row(.exportedDirty, 0x63, 11, true, rights: 7),
        row(.exportedDirtyBlockedForWriting, 0x67, 12, true, rights: 5),
        row(.pending, 0x70, 2, true),
        row(.pendingBlocked, 0x78, 3, true),
        row(.pendingBlockedForWriting, 0x74, 16, true),
        row(.pendingExportedBlockedForWriting, 0x76, 17, false),
        row(.pendingExportedDirty, 0x73, 19, true),
        row(.pendingExportedDirtyBlockedForWriting, 0x77, 20, true),
    ]

    private static func row(
        _ state: EntryState, _ code: UInt8, _ publicValue: UInt8, _ tracking: Bool, rights: UInt64 = 0
    ) -> EntryStateRow {
        EntryStateRow(state: state, code: code, publicValue: publicValue, needsTracking: tracking, rights: rights)
    }
}

extension EntryState {
    /// What RDX bits 15:8 show for this state.
    public var publicValue: UInt8 { EntryStateRow.all[Int(rawValue)].publicValue }

    /// The state bits of an entry: 56:53, 9, 7:6.
    var bits: UInt64 {
        let code = UInt64(EntryStateRow.all[Int(rawValue)].code)
        return (code & 1) << 9 | (code & 0x1E) << 52 | (code & 0x60) << 1
    }

    /// A leaf entry in this state for a page, or the entry of a table, unlocked, as raw bits.
    func entry(_ address: UInt64) -> UInt64 {
        switch self {
        case .free, .removed: return bits | Entry.suppressVE
        case .tableMapped, .tableBlocked:
            return bits | Entry.suppressVE | address | EntryStateRow.all[Int(rawValue)].rights
        default:
            return bits | Entry.suppressVE | address | Entry.memoryType | EntryStateRow.all[Int(rawValue)].rights
        }
    }

    /// Bit sets of states, by index.
    static let blockedSet: UInt16 = 1 << 3 | 1 << 5 | 1 << 11
    static let accessibleLeafSet: UInt16 = 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9
    static let acceptableSet: UInt16 = 1 << 10 | 1 << 14
    @inline(__always) func isIn(_ set: UInt16) -> Bool { set >> UInt16(rawValue) & 1 != 0 }
}

/// A raw Secure-EPT entry (reference §6.1). An entry of a table holds the table's slot where hardware holds its
/// address; neither is ever shown.
enum Entry {
    static let rights: UInt64 = 7
    static let memoryType: UInt64 = 6 << 3
    static let leaf: UInt64 = 1 << 7
    static let lock: UInt64 = 1 << 11
    static let addressMask: UInt64 = 0x000F_FFFF_FFFF_F000
    static let hostPriority: UInt64 = 1 << 52
    static let blockedForWriting: UInt64 = 1 << 54
    static let blocked: UInt64 = 1 << 55
    static let pending: UInt64 = 1 << 56
    static let suppressVE: UInt64 = 1 << 63
    /// How many 4 KiB chunks of a pending 2 MiB page the guest has accepted.
    static let acceptCounterShift: UInt64 = 12
    static let acceptCounterMask: UInt64 = 0x1FF << 12
    /// A free entry: the state bits and suppress-#VE.
    static let free: UInt64 = 0x80E0_0000_0000_0000

    /// The 7-bit state code.
    @inline(__always) static func code(_ raw: UInt64) -> Int {
        Int(truncatingIfNeeded: raw >> 9 & 1 | raw >> 52 & 0x1E | raw >> 1 & 0x60)
    }
    @inline(__always) static func isLeaf(_ raw: UInt64) -> Bool { raw & leaf != 0 }
    @inline(__always) static func address(_ raw: UInt64) -> UInt64 { raw & addressMask }
    @inline(__always) static func slot(_ raw: UInt64) -> UInt64 { (raw & addressMask) >> 12 }
    /// Blocks: rights and write-block go, and with them the accept counter of a pending large page.
    @inline(__always) static func blocking(_ raw: UInt64, level: UInt64) -> UInt64 {
        var new = raw & ~(rights | blockedForWriting | lock | hostPriority) | blocked
        if level > 0, raw & pending != 0 { new &= ~acceptCounterMask }
        return new
    }
    /// The reverse of `blocking`.
    @inline(__always) static func unblocking(_ raw: UInt64) -> UInt64 {
        let new = raw & ~(blocked | lock | hostPriority)
        return raw & pending != 0 ? new : new | rights
    }
    /// What hardware's architecture defines of the entry, as RCX shows it (reference §6.2).
    static func architectural(_ raw: UInt64, _ state: EntryState) -> UInt64 {
        if state == .free { return suppressVE }
        if isLeaf(raw) { return raw & (rights | 7 << 3 | addressMask | 1 << 6 | leaf | suppressVE) }
        return raw & (rights | leaf)
    }
}

/// Which states each 7-bit code means, and the code's checks for a module version, in flat memory.
struct EntryStateDecoder: @unchecked Sendable {
    /// 128 state indices; 0xFF where a code means nothing.
    private let table: UnsafeMutablePointer<UInt8>

    init(version: ModuleVersion) {
        table = .allocate(capacity: 128)
        table.initialize(repeating: 0xFF, count: 128)
        for row in EntryStateRow.all { table[Int(row.code)] = row.state.rawValue }
        if version == .late {
            // Bit 9 is ignored for these three.
            table[0x61] = EntryState.mapped.rawValue
            table[0x69] = EntryState.blocked.rawValue
            table[0x65] = EntryState.blockedForWriting.rawValue
        }
    }

    func deallocate() { table.deallocate() }

    @inline(__always) func callAsFunction(_ raw: UInt64) -> EntryState {
        EntryState(rawValue: table[Entry.code(raw)])!
    }
}
