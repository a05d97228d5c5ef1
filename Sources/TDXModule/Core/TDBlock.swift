internal import MemoryUnits
internal import Synchronization

/// What the module keeps of one trust domain: the parts of TDR and TDCS that calls need often, in two cache lines.
///
/// Who protects what: `locks` are the try-locks of reference §7.2; `state` changes under the TDR lock held
/// exclusively, but for its FATAL bit; counters are atomic.
struct TDBlock: ~Copyable {
    /// Four locks of 16 bits: TDR, OP_STATE, Secure-EPT tree, TD_EPOCH. One word, so that a call takes and gives back
    /// all that it needs at once.
    let locks = Atomic<UInt64>(0)
    /// See `TDState`.
    let state = Atomic<UInt64>(0)
    /// CHLDCNT: pages that belong to the trust domain, in units of 4 KiB, without TDR.
    let children = Atomic<UInt64>(0)
    /// TD_EPOCH; 1 after MNG.INIT.
    let epoch = Atomic<UInt64>(0)
    /// REFCOUNT: bits 31:0 vCPUs inside that entered in an even epoch, bits 63:32 in an odd one.
    let inside = Atomic<UInt64>(0)
    /// Slot of the Secure EPT's root table.
    let rootTable = Atomic<UInt64>(0)
    /// GPA bits that no private address may have.
    let forbiddenGPABits = Atomic<UInt64>(0)
    /// Host-physical address of TDR.
    let address = Atomic<UInt64>(0)
    /// NUM_VCPUS in bits 31:0, NUM_ASSOC_VCPUS in bits 63:32.
    let vcpus = Atomic<UInt64>(0)
    static let vcpuMask: UInt64 = 0xFFFF_FFFF
    /// A retained `TDContext`, as bits.
    let context = Atomic<UInt64>(0)
    /// Lock of the RTMRs (guest side).
    let rtmrLock = Atomic<UInt64>(0)
    private let padding = (UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt64(0))
}

typealias TD = UnsafeMutablePointer<TDBlock>

extension UnsafeMutablePointer where Pointee == TDBlock {
    /// The parts of TDCS that are not touched in hot paths. Valid while any lock of TDR is held.
    var details: TDContext {
        Unmanaged<TDContext>.fromOpaque(UnsafeRawPointer(bitPattern: UInt(pointee.context.get()))!)
            .takeUnretainedValue()
    }
}

/// `TDBlock.state`, taken apart.
struct TDState {
    var raw: UInt64
    @inline(__always) init(_ raw: UInt64) { self.raw = raw }

    static let lifecycleMask: UInt64 = 0xFF
    static let fatalBit: UInt64 = 1 << 8
    static let tdcxMask: UInt64 = 0xFF << 16
    static let opStateMask: UInt64 = 0xFF << 24
    static let rootLevelMask: UInt64 = 0xFF << 48
    static let debugBit: UInt64 = 1 << 56

    @inline(__always) var lifecycle: UInt8 { UInt8(truncatingIfNeeded: raw) }
    @inline(__always) var isFatal: Bool { raw & Self.fatalBit != 0 }
    @inline(__always) var tdcxCount: Int { Int(raw >> 16 & 0xFF) }
    @inline(__always) var opState: UInt8 { UInt8(truncatingIfNeeded: raw >> 24) }
    @inline(__always) var key: UInt16 { UInt16(truncatingIfNeeded: raw >> 32) }
    @inline(__always) var rootLevel: UInt64 { raw >> 48 & 0xFF }
    @inline(__always) var isDebug: Bool { raw & Self.debugBit != 0 }
    /// Nothing stands in the way of C-STATE but OP_STATE: not fatal, keys configured, at least 6 TDCX.
    @inline(__always) var isOperational: Bool {
        raw & (Self.lifecycleMask | Self.fatalBit) == UInt64(Lifecycle.keysConfigured.rawValue) && tdcxCount >= 6
    }
}

/// TDR's life-cycle state (reference §4.1).
@frozen
public enum Lifecycle: UInt8, Hashable, Sendable {
    case keyAssigned = 0
    case keysConfigured = 1
    case blocked = 2
    case teardown = 3
}

/// TDCS's operation state (reference §4.1).
@frozen
public enum OperationState: UInt8, Hashable, Sendable, CaseIterable {
    case uninitialized = 0
    case initialized = 1
    case runnable = 2
    case liveExport = 3
    case pausedExport = 4
    case postExport = 5
    case memoryImport = 6
    case stateImport = 7
    case postImport = 8
    case liveImport = 9
    case failedImport = 10
    case startImport = 11
    case startExport = 12
}

/// The four locks in `TDBlock.locks`: what a call asks for, in one request.
struct TDLockRequest {
    /// Bits that must be clear.
    let conflicts: UInt64
    /// What is added while held, and subtracted after.
    let amount: UInt64

    static let tdrShift: UInt64 = 0
    static let opStateShift: UInt64 = 16
    static let treeShift: UInt64 = 32
    static let epochShift: UInt64 = 48

    init(conflicts: UInt64, amount: UInt64) {
        self.conflicts = conflicts
        self.amount = amount
    }

    @inline(__always) static func shared(_ shift: UInt64) -> Self {
        Self(conflicts: Sharex.exclusive << shift, amount: Sharex.reader << shift)
    }
    @inline(__always) static func exclusive(_ shift: UInt64) -> Self {
        Self(conflicts: Sharex.occupied << shift, amount: Sharex.exclusive << shift)
    }
    @inline(__always) static func + (a: Self, b: Self) -> Self {
        Self(conflicts: a.conflicts | b.conflicts, amount: a.amount + b.amount)
    }

    @inline(__always) static var tdrShared: Self { shared(tdrShift) }
    @inline(__always) static var tdrExclusive: Self { exclusive(tdrShift) }
    @inline(__always) static var opStateShared: Self { shared(opStateShift) }
    @inline(__always) static var treeShared: Self { shared(treeShift) }
    @inline(__always) static var treeExclusive: Self { exclusive(treeShift) }
    @inline(__always) static var epochShared: Self { shared(epochShift) }
    @inline(__always) static var epochExclusive: Self { exclusive(epochShift) }
}
