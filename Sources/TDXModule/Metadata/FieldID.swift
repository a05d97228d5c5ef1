/// A metadata field's 64-bit identifier, as SYS.RD, MNG.RD and VP.RD take it.
///
/// Bits 23:0 field code, 33:32 element size (2^n bytes), 37:34 last element, 46:38 last field, 50 codes count in steps of two,
/// 51 a write mask follows, 54:52 context, 61:56 class, 63 not architectural; the others are reserved.
struct FieldID: Hashable, Sendable {
    var raw: UInt64

    @inline(__always) init(_ raw: UInt64) { self.raw = raw }

    /// What a call returns after the last field.
    static let none = FieldID(.max)

    enum Context: UInt64 {
        case system = 0
        case trustDomain = 1
        case vcpu = 2
    }

    static let codeMask: UInt64 = 0xFF_FFFF
    private static let contextMask: UInt64 = 7 << 52
    private static let writeMaskBit: UInt64 = 1 << 51
    private static let listMask: UInt64 = 0x1FF << 38 | 0xF << 34
    private static let reservedMask: UInt64 = 0xFF << 24 | 7 << 47 | 1 << 55 | 1 << 62

    var code: UInt64 { raw & Self.codeMask }
    var classCode: UInt8 { UInt8(raw >> 56 & 0x3F) }
    /// 0 … 3: elements of 1, 2, 4 or 8 bytes.
    var sizeCode: UInt64 { raw >> 32 & 3 }
    /// The bits of an element.
    var elementMask: UInt64 { sizeCode == 3 ? .max : 1 << (8 << sizeCode) - 1 }
    /// How far the codes of neighbouring elements lie apart: 2 where a VMCS field has a "high" code of its own.
    var stride: UInt64 { 1 + raw >> 50 & 1 }
    /// All ones but for the context: a read of it asks for the first field.
    var isNull: Bool { raw | Self.contextMask == .max }
    /// Reserved bits and those of lists are 0. Size, step, context and write-mask bits are not looked at.
    var namesOneElement: Bool { raw & (Self.reservedMask | Self.listMask) == 0 }

    func inContext(_ context: Context) -> Self { Self(raw & ~Self.contextMask | context.rawValue << 52) }
    func withCode(_ code: UInt64) -> Self { Self(raw & ~Self.codeMask | code & Self.codeMask) }

    /// The header of a sequence of fields in a metadata list.
    func sequenceHeader(_ context: Context, elements: UInt64, fields: UInt64) -> UInt64 {
        let cleared = raw & ~(Self.reservedMask | Self.listMask | Self.writeMaskBit)
        return Self(cleared).inContext(context).raw | (elements - 1) << 34 | (fields - 1) << 38
    }
}

/// The part of a CPUID_VALUES field's code that names leaf and sub-leaf.
///
/// Bit 0 element (EBX:EAX or EDX:ECX), 7:1 sub-leaf, 8 "no sub-leaves", 15:9 leaf, 16 leaf bit 31.
extension FieldID {
    static let cpuidClass: UInt8 = 20

    init(cpuid leaf: UInt32, _ subleaf: UInt32, element: UInt64 = 0) {
        let none: UInt64 = subleaf == CPUIDConfiguration.none ? 1 : 0
        let place =
            element | UInt64(subleaf & 0x7F) << 1 | none << 8 | UInt64(leaf & 0x7F) << 9 | UInt64(leaf >> 31) << 16
        self.init(TrustDomainField.cpuidValues.rawValue | place)
    }

    var cpuidElement: UInt64 { raw & 1 }
    var cpuidLeaf: UInt32 { UInt32(raw >> 9 & 0x7F) | UInt32(raw >> 16 & 1) << 31 }
    var cpuidSubleaf: UInt32 { raw >> 8 & 1 != 0 ? CPUIDConfiguration.none : UInt32(raw >> 1 & 0x7F) }
    var hasReservedCPUIDBits: Bool { raw & 0xFE_0000 != 0 }
}
