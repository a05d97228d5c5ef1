public import MemoryUnits

/// What a guest's TDG.VP.VMCALL is answered with, as the guest finds it in R10. Unknown values survive.
/// Source: Guest-Host Communication Interface, "TDG.VP.VMCALL status codes".
@frozen
public struct TDVMCallStatus: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }

    @inlinable public static var success: Self { Self(rawValue: 0) }
    @inlinable public static var retry: Self { Self(rawValue: 1) }
    @inlinable public static var invalidOperand: Self { Self(rawValue: 1 << 63) }
    @inlinable public static var alignError: Self { Self(rawValue: 1 << 63 | 2) }
    @inlinable public static var subfunctionUnsupported: Self { Self(rawValue: 1 << 63 | 3) }
}

/// A TDG.VP.VMCALL that the kernel leaves to user space (KVM_EXIT_TDX), with its operands. Source: reference/kvm.md §1.6.
public enum TDXExit: Hashable, Sendable {
    /// GetTdVmCallInfo of a leaf other than 0. The kernel presets success and zeros.
    case getTDVMCallInfo(leaf: UInt64)
    /// GetQuote: a buffer in shared memory, its address without the shared bit. The guest chose both; neither is checked but for
    /// the shared bit. The kernel presets `subfunctionUnsupported`.
    case getQuote(buffer: GuestPhysicalAddress, size: UInt64)
    /// SetupEventNotifyInterrupt: a vector of 32 … 255. The kernel presets `subfunctionUnsupported`.
    case setupEventNotify(vector: UInt64)
    /// A call that this library does not know. The kernel presets an answer.
    case other(number: UInt64, flags: UInt64)

    /// Numbers of the calls.
    public static let getTDVMCallInfoNumber: UInt64 = 0x10000
    public static let getQuoteNumber: UInt64 = 0x10002
    public static let setupEventNotifyNumber: UInt64 = 0x10004

    /// `kvm_run.tdx.nr`
    public var number: UInt64 {
        switch self {
        case .getTDVMCallInfo: Self.getTDVMCallInfoNumber
        case .getQuote: Self.getQuoteNumber
        case .setupEventNotify: Self.setupEventNotifyNumber
        case .other(let number, _): number
        }
    }

    /// What the guest gets where user space gives no answer.
    public var preset: TDXAnswer {
        switch self {
        case .getTDVMCallInfo: TDXAnswer(.success)
        case .getQuote, .setupEventNotify, .other: TDXAnswer(.subfunctionUnsupported)
        }
    }
}

/// User space's answer to a `TDXExit`.
public struct TDXAnswer: Hashable, Sendable {
    public var status: TDVMCallStatus
    /// R11 to R14, which only GetTdVmCallInfo hands on to the guest.
    public var r11: UInt64
    public var r12: UInt64
    public var r13: UInt64
    public var r14: UInt64

    public init(_ status: TDVMCallStatus, r11: UInt64 = 0, r12: UInt64 = 0, r13: UInt64 = 0, r14: UInt64 = 0) {
        self.status = status
        self.r11 = r11
        self.r12 = r12
        self.r13 = r13
        self.r14 = r14
    }
}

/// The four words of `kvm_tdx_capabilities` of the TDVMCALLs beyond the base ones that are supported, as GetTdVmCallInfo's
/// leaf 1 returns them in R11 and R12: those of the kernel alone, and those that user space must answer.
public struct TDVMCallSupport: Hashable, Sendable {
    public var kernelR11: UInt64
    public var userR11: UInt64
    public var kernelR12: UInt64
    public var userR12: UInt64

    public init(kernelR11: UInt64 = 0, userR11: UInt64 = 0, kernelR12: UInt64 = 0, userR12: UInt64 = 0) {
        self.kernelR11 = kernelR11
        self.userR11 = userR11
        self.kernelR12 = kernelR12
        self.userR12 = userR12
    }

    /// Bit 1 of R11: SetupEventNotifyInterrupt.
    public static let setupEventNotify: UInt64 = 1 << 1
}
