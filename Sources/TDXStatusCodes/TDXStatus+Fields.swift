extension TDXStatus {
    /// The condition without operand or details: bits 63:32 in place, bits 31:0 zero. Compare statuses by this.
    @inlinable public var base: TDXStatus { TDXStatus(rawValue & 0xFFFF_FFFF_0000_0000) }
    /// Bits 31:0: an operand id or details, as the condition defines.
    @inlinable public var details: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    /// Bits 39:32: the number of the condition within its class.
    @inlinable public var number: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 32) }
    /// Bits 47:40: the class.
    @inlinable public var statusClass: StatusClass { StatusClass(rawValue: UInt8(truncatingIfNeeded: rawValue >> 40)) }
    /// Bit 63. Some conditions that are no success have it clear: they inform.
    @inlinable public var isError: Bool { rawValue >> 63 != 0 }
    /// Bit 62: a repetition of the same call fails alike.
    @inlinable public var isNonRecoverable: Bool { rawValue & 1 << 62 != 0 }
    /// Bit 61: the trust domain is, or has become, fatal.
    @inlinable public var isFatal: Bool { rawValue & 1 << 61 != 0 }
    /// Bit 60: the host may recover from a trap-type exit and resume the vCPU.
    @inlinable public var hasHostRecoverabilityHint: Bool { rawValue & 1 << 60 != 0 }
    /// Nothing but SUCCESS, whatever its details.
    @inlinable public var isSuccess: Bool { rawValue >> 32 == 0 }
    /// Class 2 with the recoverable-error prefix: worth a retry (Linux's mask for "busy").
    @inlinable public var isBusy: Bool { rawValue & 0xFFFF_FF00_0000_0000 == 0x8000_0200_0000_0000 }

    /// The condition with an operand id added in bits 31:0.
    @inlinable public func with(_ operand: Operand) -> TDXStatus { TDXStatus(rawValue &+ UInt64(operand.rawValue)) }
    /// The condition with details added in bits 31:0.
    @inlinable public func with(details: UInt32) -> TDXStatus { TDXStatus(rawValue &+ UInt64(details)) }
    /// The condition with up to four bytes of information, the first lowest (TDMR and PAMT conditions).
    @inlinable
    public func with(bytes first: UInt8, _ second: UInt8 = 0, _ third: UInt8 = 0, _ fourth: UInt8 = 0) -> TDXStatus {
        with(details: UInt32(first) | UInt32(second) << 8 | UInt32(third) << 16 | UInt32(fourth) << 24)
    }
    /// The condition with a nested virtual machine's index (1 … 3) and a level, as class-11 L2 conditions carry.
    @inlinable public func with(virtualMachine: UInt16, level: UInt16) -> TDXStatus {
        with(details: UInt32(virtualMachine) << 16 | UInt32(level))
    }
}

/// Bits 47:40 of a status: what kind of object it is about. Unknown numbers are kept.
@frozen
public struct StatusClass: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The class in words.
    public var name: String {
        switch rawValue {
        case 0: "general"
        case 1: "operand"
        case 2: "busy"
        case 3: "page metadata"
        case 4: "trust domain pages"
        case 5: "system"
        case 6: "trust domain state"
        case 7: "vCPU state"
        case 8: "keys"
        case 9: "platform"
        case 0xA: "TDMR and PAMT"
        case 0xB: "Secure EPT"
        case 0xC: "metadata fields"
        case 0xD: "service trust domain"
        case 0xE: "migration"
        case 0x10: "report"
        case 0x11: "nested virtual machine"
        case 0xFF: "software (not from the module)"
        default: "unknown class \(rawValue)"
        }
    }
}
