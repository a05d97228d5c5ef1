internal import MemoryUnits
internal import Synchronization

/// The module's own state (reference §0.1).
enum SystemState: UInt64 {
    case initPending = 0
    case initDone = 1
    case configDone = 2
    case ready = 3
    case shutdown = 4
}

/// One line of the key-ownership table (KOT).
struct KeyEntry: Sendable {
    var state = KeyState.free
    /// Packages whose caches were not written back since the key was flushed.
    var writeBackBitmap: UInt32 = 0
}

/// A trust-domain memory region, as SYS.CONFIG accepted it.
struct TDMR: Sendable {
    var base: UInt64
    var size: UInt64
    /// PAMT areas by size code 0 … 2.
    var pamtBase: [UInt64] = [0, 0, 0]
    var pamtSize: [UInt64] = [0, 0, 0]
    /// Ranges that become PT_RSVD, by address.
    var reserved: [Range<UInt64>] = []
    /// The first address whose PAMT entries are not initialised.
    var next: UInt64
    var isBusy = false

    var end: UInt64 { base + size }
}

/// What the module knows of the platform after SYS.INIT; changed under the global lock.
struct SystemTables: Sendable {
    /// Logical processors that ran SYS.LP.INIT.
    var processorsInitialized: Set<UInt32> = []
    /// Packages that ran SYS.KEY.CONFIG.
    var packagesConfigured: UInt64 = 0
    var tdmrs: [TDMR] = []
    var globalKey: UInt16 = 0
}

/// One package's cache write-back (PHYMEM.CACHE.WB).
struct WriteBackState: Sendable {
    var isBusy = false
    /// Where an interrupted write-back goes on; 0 when none is interrupted.
    var savedPoint = 0
    /// Key ids that were flushed when it started.
    var snapshot: [UInt16] = []
}
