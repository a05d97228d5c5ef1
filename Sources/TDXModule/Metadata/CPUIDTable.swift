/// A CPUID leaf whose bits TD_PARAMS may choose: 1 in a mask means configurable.
///
/// The published list of release 1.5.01 (intel/tdx-module, include/auto_gen/cpuid_configurations.c), in the order that
/// SYS.INFO, SYS.RD and TD_PARAMS use.
public struct CPUIDConfiguration: Hashable, Sendable {
    public var leaf: UInt32
    /// 0xFFFF_FFFF when the leaf has no sub-leaves.
    public var subleaf: UInt32
    /// Bits that may be 1 in TD_PARAMS.
    public var eax: UInt32
    public var ebx: UInt32
    public var ecx: UInt32
    public var edx: UInt32

    /// Bits that take the value of TD_PARAMS whatever the processor has.
    var direct: CPUIDWords
    /// Bits that TD_PARAMS can only clear: a TD sees them as 1 when the processor has them, too.
    var allowed: CPUIDWords

    init(_ leaf: UInt32, _ subleaf: UInt32, direct: CPUIDWords = .zero, allowed: CPUIDWords = .zero) {
        self.leaf = leaf
        self.subleaf = subleaf
        self.direct = direct
        self.allowed = allowed
        let open = direct | allowed
        (eax, ebx, ecx, edx) = (open.eax, open.ebx, open.ecx, open.edx)
    }

    static let none: UInt32 = 0xFFFF_FFFF

    /// Whether the leaf has sub-leaves.
    public var hasSubleaves: Bool { subleaf != Self.none }

    /// The MNG.RD field of what a trust domain sees of the leaf: EBX and EAX, or EDX and ECX, the first of each pair
    /// in bits 63:32. Source: Linux, arch/x86/kvm/vmx/tdx.c, whose KVM_TDX_GET_CPUID reads these pairs. Leaf bit 31 is bit
    /// 16, leaf bits 6:0 are bits 15:9, "no sub-leaf" is bit 8, sub-leaf bits 6:0 are bits 7:1, which are ones without one.
    public func field(ofECXAndEDX: Bool) -> UInt64 { Self.field(leaf, subleaf, ofECXAndEDX: ofECXAndEDX) }

    /// The same for any leaf that the module virtualises; `subleaf` is 0xFFFF_FFFF for a leaf without sub-leaves.
    public static func field(_ leaf: UInt32, _ subleaf: UInt32, ofECXAndEDX: Bool) -> UInt64 {
        FieldID(cpuid: leaf, subleaf, element: ofECXAndEDX ? 1 : 0).raw
    }

    private static let cacheBits = CPUIDWords(0xFFFF_C3FF, 0xFFFF_F000, 0xFFFF_FFFF, 0xFFFF_FFFB)

    /// The twelve leaves that a host configures (reference §8.3).
    public static let all: [CPUIDConfiguration] = [
        .init(
            0x1, none, direct: .init(0x0FFF_3FFF, 0x00FF_0000, 0, 0), allowed: .init(0, 0, 0x3104_4D88, 0xB844_0000)),
        .init(0x4, 0, direct: cacheBits),
        .init(0x4, 1, direct: cacheBits),
        .init(0x4, 2, direct: cacheBits),
        .init(0x4, 3, direct: .init(0xFFFF_C3FF, 0xFFFF_F000, 0xFFFF_FFFF, 0x7)),
        .init(0x7, 0, allowed: .init(0, 0xDC2B_9B18, 0x0241_7F65, 0x0005_411C)),
        .init(0x7, 1, allowed: .init(0x1D30, 0, 0, 0)),
        .init(0xA, none),
        .init(0x1C, none, allowed: .init(0xFF, 0, 0, 0)),
        .init(0x8000_0008, none, allowed: .init(0, 0x200, 0, 0)),
        .init(0x7, 2, allowed: .init(0, 0, 0, 0x28)),
        .init(0x23, 0, allowed: .init(0xF, 0, 0, 0)),
    ]
}

extension TDXModule {
    /// What SYS.INFO lists of a configurable leaf: bits that take any value, and those that the processor has.
    func configurableBits(_ entry: CPUIDConfiguration) -> CPUIDWords {
        entry.direct | entry.allowed & platform.processor.virtualBase(entry.leaf, entry.subleaf)
    }
}
