/// The permissions of all rows of leaves, as bit sets in flat memory, for calls (reference §4.4 and §6.3).
struct Permissions: @unchecked Sendable {
    /// By leaf: operation states, entry states, then entry states of the guest's leaves; `count` of each.
    private let masks: UnsafeMutablePointer<UInt16>
    private let trackedStates: UInt16
    private let trackedEntries: UInt16

    /// Leaf numbers are below this.
    private static let count = 128

    /// Operation states in which TLB tracking is required.
    private static let trackedOperationStates: [OperationState] = [.runnable, .liveExport, .liveImport, .startExport]

    init(version: ModuleVersion) {
        precondition(SeamcallLeaf.allCases.allSatisfy { $0.rawValue < Self.count }, "a leaf number needs a wider table")
        masks = .allocate(capacity: 3 * Self.count)
        masks.initialize(repeating: 0, count: 3 * Self.count)
        for leaf in SeamcallLeaf.allCases {
            let row = leaf.row
            var states = Self.bits(row.operation)
            // START_EXPORT behaves like RUNNABLE; START_IMPORT allows none of these leaves.
            if version == .late, states & 1 << 2 != 0 { states |= 1 << 12 }
            masks[Int(leaf.rawValue)] = states
            masks[Self.count + Int(leaf.rawValue)] = Self.bits(row.entry)
        }
        for leaf in TDCallLeaf.allCases { masks[2 * Self.count + Int(leaf.rawValue)] = Self.bits(leaf.row.entry) }
        trackedStates = Self.trackedOperationStates.reduce(0) { $0 | 1 << UInt16($1.rawValue) }
        trackedEntries = EntryStateRow.all.reduce(0) { $1.needsTracking ? $0 | 1 << UInt16($1.state.rawValue) : $0 }
    }

    /// A row's columns as a bit set, first column lowest; none without columns.
    private static func bits(_ columns: StaticString?) -> UInt16 {
        (columns?.description ?? "").split(separator: " ").enumerated().reduce(0) {
            $1.element == "x" ? $0 | 1 << UInt16($1.offset) : $0
        }
    }

    func deallocate() { masks.deallocate() }

    @inline(__always) func allows(_ leaf: SeamcallLeaf, inOperationState state: UInt8) -> Bool {
        masks[Int(leaf.rawValue)] >> UInt16(state) & 1 != 0
    }
    @inline(__always) func allows(_ leaf: SeamcallLeaf, on state: EntryState) -> Bool {
        masks[Self.count + Int(leaf.rawValue)] >> UInt16(state.rawValue) & 1 != 0
    }
    @inline(__always) func allows(_ leaf: TDCallLeaf, on state: EntryState) -> Bool {
        masks[2 * Self.count + Int(leaf.rawValue)] >> UInt16(state.rawValue) & 1 != 0
    }
    /// C-TRACK applies: both the entry's state and the operation state ask for it.
    @inline(__always) func requiresTracking(_ state: EntryState, inOperationState op: UInt8) -> Bool {
        trackedEntries >> UInt16(state.rawValue) & 1 != 0 && trackedStates >> UInt16(op) & 1 != 0
    }
    @inline(__always) func requiresTracking(inOperationState op: UInt8) -> Bool {
        trackedStates >> UInt16(op) & 1 != 0
    }
}
