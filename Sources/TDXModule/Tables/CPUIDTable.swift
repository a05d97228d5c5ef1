/// A CPUID leaf whose bits TD_PARAMS may choose: 1 in a mask means configurable.
///
/// The public sources leave the list to the processor. This one is the model's own, in the shape and order that
/// SYS.INFO and TD_PARAMS use.
public struct CPUIDConfiguration: Hashable, Sendable {
    public var leaf: UInt32
    /// 0xFFFF_FFFF when the leaf has no sub-leaves.
    public var subleaf: UInt32
    public var eax: UInt32
    public var ebx: UInt32
    public var ecx: UInt32
    public var edx: UInt32

    init(_ leaf: UInt32, _ subleaf: UInt32, _ eax: UInt32, _ ebx: UInt32, _ ecx: UInt32, _ edx: UInt32) {
        self.leaf = leaf
        self.subleaf = subleaf
        self.eax = eax
        self.ebx = ebx
        self.ecx = ecx
        self.edx = edx
    }

    static let none: UInt32 = 0xFFFF_FFFF

    /// Whether the leaf has sub-leaves.
    public var hasSubleaves: Bool { subleaf != Self.none }

    /// The MNG.RD field that tells what a trust domain sees of the leaf: EBX and EAX, or EDX and ECX, the first of each pair
    /// in bits 63:32. Source: Linux, arch/x86/kvm/vmx/tdx.c, whose KVM_TDX_GET_CPUID reads these pairs. Leaf bit 31 is bit
    /// 16, leaf bits 6:0 are bits 15:9, "no sub-leaf" is bit 8, sub-leaf bits 6:0 are bits 7:1, which are ones without one.
    public func field(ofECXAndEDX: Bool) -> UInt64 {
        let place = hasSubleaves ? UInt64(subleaf & 0x7F) << 1 : 0x1FE
        return 0x9410_0003_0000_0000 | UInt64(leaf >> 31) << 16 | UInt64(leaf & 0x7F) << 9 | place
            | (ofECXAndEDX ? 1 : 0)
    }

    /// The twelve leaves that the model lets a host configure (reference §8.3).
    public static let all: [CPUIDConfiguration] = [
        .init(0x1, none, 0x0FFF_3FFF, 0x00FF_0000, 0x3104_0980, 0x1000_0000),
        .init(0x4, 0, 0xFC00_0000, 0, 0, 0),
        .init(0x4, 1, 0xFC00_0000, 0, 0, 0),
        .init(0x4, 2, 0xFC00_0000, 0, 0, 0),
        .init(0x4, 3, 0xFC00_C000, 0, 0, 0),
        .init(0x7, 0, 0, 0xD02F_A7B9, 0x0140_7FCE, 0x1C5C_0510),
        .init(0x7, 1, 0x0000_1C30, 0, 0, 0),
        .init(0x14, 0, 0, 0, 0, 0),
        .init(0x1D, 1, 0, 0, 0, 0),
        .init(0x1F, 0, 0x0000_001F, 0x0000_FFFF, 0x0000_FF00, 0),
        .init(0x1F, 1, 0x0000_001F, 0x0000_FFFF, 0x0000_FF00, 0),
        .init(0x8000_0008, none, 0x00FF_0000, 0, 0, 0),
    ]
}
