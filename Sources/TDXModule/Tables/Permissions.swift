/// Which leaf is allowed in which operation state and on which Secure-EPT state, as data (reference §4.4 and §6.3).
/// Code and documentation read these rows; there is no other place that decides.
enum PermissionTables {
    /// Columns: operation states 0 … 10.
    static let operationStates: [(leaf: SeamcallLeaf, allowed: String)] = [
        (.vpEnter, ". . x x . . . . . x ."),
        (.mngAddcx, "x . . . . . . . . . ."),
        (.memPageAdd, ". x . . . . . . . . ."),
        (.memSeptAdd, ". x x x . . x x x x ."),
        (.vpAddcx, ". x . . . . . x . . ."),
        (.memPageRelocate, ". x x x x x . . x x ."),
        (.memPageAug, ". x x x . . . . . x ."),
        (.memRangeBlock, ". x x x x x . . x x ."),
        (.vpCreate, ". x . . . . . x . . ."),
        (.mngRd, ". x x x x x x x x x x"),
        (.memRd, ". x x x x x x x x x x"),
        (.mngWr, ". x x x . . x x x x x"),
        (.memWr, ". x x x . . x x x x x"),
        (.memPageDemote, ". x x x x x . . x x ."),
        (.mrExtend, ". x . . . . . . . . ."),
        (.mrFinalize, ". x . . . . . . . . ."),
        (.mngInit, "x . . . . . . . . . ."),
        (.vpInit, ". x . . . . . . . . ."),
        (.memPagePromote, ". x x x x x . . x x ."),
        (.memSeptRd, ". x x x x x x x x x x"),
        (.vpRd, ". x x x x x x x x x x"),
        (.memPageRemove, ". x x x x x . . x x x"),
        (.memSeptRemove, ". x x x x x x x x x x"),
        (.memTrack, ". x x x x x x x x x ."),
        (.memRangeUnblock, ". x x x x x . . x x ."),
        (.vpWr, ". x x x . . x x x x x"),
    ]

    /// Columns: `EntryState` 0 … 15.
    static let entryStates: [(leaf: SeamcallLeaf, allowed: String)] = [
        (.memPageAdd, "x . . . . . . . . . . . . . . ."),
        (.memSeptAdd, "x . x . . . . . . . . . . . . ."),
        (.memPageRelocate, ". . . . x x x x x x x x x x x x"),
        (.memPageAug, "x x . . . . . . . . . . . . . ."),
        (.memRangeBlock, ". . x . x . x . . . x . x . . ."),
        (.memRd, ". . . . x . x x x x . . . . . ."),
        (.memWr, ". . . . x . . . x . . . . . . ."),
        (.memPageDemote, ". . . . x x . . . . x x . . . ."),
        (.mrExtend, ". . . . x . . . . . . . . . . ."),
        (.memPagePromote, ". . x x . . . . . . . . . . . ."),
        (.memSeptRd, "x x x x x x x x x x x x x x x x"),
        (.memPageRemove, ". . . . x x x . . . x x x . . ."),
        (.memSeptRemove, ". . x x . . . . . . . . . . . ."),
        (.memRangeUnblock, ". . . x . x . . . . . x . . . ."),
    ]

    /// The guest's leaves, columns as above.
    static let guestEntryStates: [(leaf: TDCallLeaf, allowed: String)] = [
        (.memPageAccept, ". . . . . . . . . . x . . . x ."),
        (.memPageAttrRd, ". . . . x . x x x x x . x x x x"),
        (.memPageAttrWr, ". . . . x . . . x . x . . . x ."),
    ]

    /// Operation states in which TLB tracking is required.
    static let trackedOperationStates: [OperationState] = [.runnable, .liveExport, .liveImport, .startExport]

    /// A row as a bit set, first column lowest.
    static func bits(_ row: String) -> UInt16 {
        row.split(separator: " ").enumerated().reduce(0) { $1.element == "x" ? $0 | 1 << UInt16($1.offset) : $0 }
    }
}

/// The tables as bit sets in flat memory, for calls.
struct Permissions: @unchecked Sendable {
    /// By leaf: operation states, then entry states, 64 each; then guest leaves, 64.
    private let masks: UnsafeMutablePointer<UInt16>
    private let trackedStates: UInt16
    private let trackedEntries: UInt16

    init(version: ModuleVersion) {
        masks = .allocate(capacity: 192)
        masks.initialize(repeating: 0, count: 192)
        for row in PermissionTables.operationStates {
            var bits = PermissionTables.bits(row.allowed)
            // START_EXPORT behaves like RUNNABLE; START_IMPORT allows none of these leaves.
            if version == .late, bits & 1 << 2 != 0 { bits |= 1 << 12 }
            masks[Int(row.leaf.rawValue)] = bits
        }
        for row in PermissionTables.entryStates {
            masks[64 + Int(row.leaf.rawValue)] = PermissionTables.bits(row.allowed)
        }
        for row in PermissionTables.guestEntryStates {
            masks[128 + Int(row.leaf.rawValue)] = PermissionTables.bits(row.allowed)
        }
        trackedStates = PermissionTables.trackedOperationStates.reduce(0) { $0 | 1 << UInt16($1.rawValue) }
        trackedEntries = EntryStateRow.all.reduce(0) { $1.needsTracking ? $0 | 1 << UInt16($1.state.rawValue) : $0 }
    }

    func deallocate() { masks.deallocate() }

    @inline(__always) func allows(_ leaf: SeamcallLeaf, inOperationState state: UInt8) -> Bool {
        masks[Int(leaf.rawValue)] >> UInt16(state) & 1 != 0
    }
    @inline(__always) func allows(_ leaf: SeamcallLeaf, on state: EntryState) -> Bool {
        masks[64 + Int(leaf.rawValue)] >> UInt16(state.rawValue) & 1 != 0
    }
    @inline(__always) func allows(_ leaf: TDCallLeaf, on state: EntryState) -> Bool {
        masks[128 + Int(leaf.rawValue)] >> UInt16(state.rawValue) & 1 != 0
    }
    /// C-TRACK applies: both the entry's state and the operation state ask for it.
    @inline(__always) func requiresTracking(_ state: EntryState, inOperationState op: UInt8) -> Bool {
        trackedEntries >> UInt16(state.rawValue) & 1 != 0 && trackedStates >> UInt16(op) & 1 != 0
    }
    @inline(__always) func requiresTracking(inOperationState op: UInt8) -> Bool {
        trackedStates >> UInt16(op) & 1 != 0
    }
}
