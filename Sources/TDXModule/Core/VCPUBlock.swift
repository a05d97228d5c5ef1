internal import Synchronization

/// What the module keeps of one vCPU (TDVPS). Its lock is that of the TDVPR page in the PAMT.
struct VCPUBlock: ~Copyable {
    /// See `VCPUState`.
    let state = Atomic<UInt64>(0)
    /// VCPU_EPOCH: TD_EPOCH at the last entry.
    let epoch = Atomic<UInt64>(0)
    /// The trust domain it belongs to, by slot.
    let td = Atomic<UInt64>(0)
    /// Host-physical address of TDVPR.
    let address = Atomic<UInt64>(0)
    /// A retained `VCPUContext`, as bits.
    let context = Atomic<UInt64>(0)
    /// Since when the guest keeps meeting host priority, in nanoseconds of the module's clock; 0 when it does not.
    let priorityWaitSince = Atomic<UInt64>(0)
    /// See `SteppingState`.
    let stepping = Atomic<UInt64>(0)
    private let padding = UInt64(0)
}

/// `VCPUBlock.stepping`, taken apart: what the module knows of a host that stops a guest at the same instruction again and
/// again (zero-step attack).
enum SteppingState {
    /// EPT violations in a row without progress of the guest, up to `threshold`.
    static let countMask: UInt64 = 0xFF
    static let threshold: UInt64 = 6
    /// Pages whose violation came after that, in `VCPUContext.Contents.faultingPages`.
    static let listedShift: UInt64 = 8
    static let listedMask: UInt64 = 0xFF << 8
    static let maximumListed = 32
    /// The guest did something since it was entered.
    static let progress: UInt64 = 1 << 16
}

typealias VCPU = UnsafeMutablePointer<VCPUBlock>

extension UnsafeMutablePointer where Pointee == VCPUBlock {
    /// Registers and ids. Valid while the TDVPR page is locked.
    var details: VCPUContext {
        Unmanaged<VCPUContext>.fromOpaque(UnsafeRawPointer(bitPattern: UInt(pointee.context.get()))!)
            .takeUnretainedValue()
    }
}

/// vCPU states (reference §1.3).
@frozen
public enum VCPUCondition: UInt8, Hashable, Sendable {
    case uninitialized = 0
    case ready = 2
    case active = 4
    case disabled = 8
    case `import` = 16
}

/// `VCPUBlock.state`, taken apart: state, pages of TDVPS, last exit, and the logical processor.
struct VCPUState {
    var raw: UInt64
    @inline(__always) init(_ raw: UInt64) { self.raw = raw }

    static let conditionMask: UInt64 = 0xFF
    static let pagesMask: UInt64 = 0xFF << 8
    static let lastExitMask: UInt64 = 0xFF << 16
    static let processorMask: UInt64 = 0xFFFF_FFFF << 32
    static let processorShift: UInt64 = 32
    static let noProcessor: UInt32 = .max

    var condition: UInt8 { UInt8(truncatingIfNeeded: raw) }
    var pages: Int { Int(raw >> 8 & 0xFF) }
    /// Kinds of exits.
    static let faultExit: UInt8 = 0
    static let trapExit: UInt8 = 1
    static let vmcallExit: UInt8 = 2

    /// 0 fault, 1 trap, 2 VMCALL.
    var lastExit: UInt8 { UInt8(truncatingIfNeeded: raw >> 16) }
    /// The logical processor it is associated with, or `noProcessor`.
    var processor: UInt32 { UInt32(truncatingIfNeeded: raw >> 32) }
}

/// The rarely used part of a vCPU.
final class VCPUContext: Sendable {
    struct Contents: Sendable {
        /// VP.INIT's RDX: RCX and R8 of the guest at its first instruction.
        var initialValue: UInt64 = 0
        var index: UInt32 = 0
        var apicID: UInt32?
        /// The last exit, to fill registers on the next entry.
        var pendingVMCall: Registers?
        /// The guest's registers after an entry that answered a VMCALL.
        var answer: Registers?
        /// What TDG.VP.VEINFO.GET returns next.
        var exception: VirtualizationException?
        /// Pages of TDVPS: TDVPR, then those of VP.ADDCX.
        var pages: [UInt64] = []
        /// Private pages that the guest met too often without progress (`SteppingState`).
        var faultingPages: [UInt64] = []
        /// What VP.INIT and VP.WR wrote.
        var fields = VCPUFieldStore()
    }
    let contents = Mutex(Contents())
}

/// The particulars of a #VE: an EPT violation on a pending page.
struct VirtualizationException: Sendable {
    var qualification: UInt64
    var gpa: UInt64
}
