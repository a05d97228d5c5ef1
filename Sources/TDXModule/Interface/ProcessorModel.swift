/// The processor under the module, as its CPUID and MSRs describe it: what the module samples in SYS.INIT and what a TD
/// sees of it. `sapphireRapids` holds the published values of a 4th-generation Xeon; a host that runs as another model
/// changes `signature` or replaces leaves.
public struct ProcessorModel: Hashable, Sendable {
    /// One leaf of CPUID, or one sub-leaf.
    public struct Leaf: Hashable, Sendable {
        public var leaf: UInt32
        /// nil when the leaf has no sub-leaves.
        public var subleaf: UInt32?
        public var eax: UInt32
        public var ebx: UInt32
        public var ecx: UInt32
        public var edx: UInt32

        public init(
            _ leaf: UInt32, _ subleaf: UInt32? = nil, eax: UInt32 = 0, ebx: UInt32 = 0, ecx: UInt32 = 0, edx: UInt32 = 0
        ) {
            (self.leaf, self.subleaf) = (leaf, subleaf)
            (self.eax, self.ebx, self.ecx, self.edx) = (eax, ebx, ecx, edx)
        }
    }

    /// CPUID leaf 1 EAX: family, model and stepping.
    public var signature: UInt32
    /// Leaves that are not all zeros; leaf 1's EAX is `signature`.
    public var leaves: [Leaf]
    /// IA32_ARCH_CAPABILITIES.
    public var archCapabilities: UInt64

    public init(signature: UInt32, leaves: [Leaf] = sapphireRapids.leaves, archCapabilities: UInt64 = 0x109_F1EB) {
        self.signature = signature
        self.leaves = leaves
        self.archCapabilities = archCapabilities
    }

    /// Family 6 model 143 stepping 8.
    public static let sapphireRapids = ProcessorModel(signature: 0x806F8, leaves: sapphireRapidsLeaves)
    /// Family 6 model 173 stepping 1, with the features of `sapphireRapids`.
    public static let graniteRapids = ProcessorModel(signature: 0xA06D1, leaves: sapphireRapidsLeaves)

    private static let sapphireRapidsLeaves: [Leaf] = [
        .init(0x0, eax: 0x20, ebx: 0x756E_6547, ecx: 0x6C65_746E, edx: 0x4965_6E69),
        .init(0x1, ebx: 0x0040_0800, ecx: 0x7FFE_FBFF, edx: 0xBFEB_FBFF),
        .init(0x4, 0, eax: 0xFC00_4121, ebx: 0x02C0_003F, ecx: 0x3F),
        .init(0x4, 1, eax: 0xFC00_4122, ebx: 0x01C0_003F, ecx: 0x3F),
        .init(0x4, 2, eax: 0xFC01_C143, ebx: 0x03C0_003F, ecx: 0x7FF),
        .init(0x4, 3, eax: 0xFC1F_C163, ebx: 0x0380_003F, ecx: 0x1_BFFF, edx: 0x4),
        .init(0x5, eax: 0x40, ebx: 0x40, ecx: 0x3, edx: 0x2020),
        .init(0x6, eax: 0x7F, ebx: 0x2, ecx: 0x9),
        .init(0x7, 0, eax: 0x2, ebx: 0xF3BF_BFFF, ecx: 0xFB41_7FFE, edx: 0xFFDD_4432),
        .init(0x7, 1, eax: 0x1C30),
        .init(0x7, 2, edx: 0x17),
        .init(0xA, eax: 0x0830_0805, ecx: 0xF, edx: 0x8604),
        .init(0xD, 0, eax: 0x602E7, ebx: 0x2B00, ecx: 0x2B00),
        .init(0xD, 1, eax: 0x1F, ebx: 0x2B00, ecx: 0x1_FD00),
        .init(0xD, 2, eax: 0x100, ebx: 0x240),
        .init(0xD, 5, eax: 0x40, ebx: 0x440),
        .init(0xD, 6, eax: 0x200, ebx: 0x480),
        .init(0xD, 7, eax: 0x400, ebx: 0x680),
        .init(0xD, 8, eax: 0x80, ecx: 0x1),
        .init(0xD, 9, eax: 0x8, ebx: 0xA80),
        .init(0xD, 10, eax: 0x8, ecx: 0x1),
        .init(0xD, 11, eax: 0x10, ecx: 0x1),
        .init(0xD, 12, eax: 0x18, ecx: 0x1),
        .init(0xD, 13, eax: 0x8, ecx: 0x1),
        .init(0xD, 14, eax: 0x30, ecx: 0x1),
        .init(0xD, 15, eax: 0x328, ecx: 0x1),
        .init(0xD, 16, eax: 0x8, ecx: 0x1),
        .init(0xD, 17, eax: 0x40, ebx: 0xAC0, ecx: 0x2),
        .init(0xD, 18, eax: 0x2000, ebx: 0xB00, ecx: 0x6),
        .init(0x14, 0, eax: 0x1, ebx: 0x5F, ecx: 0x8000_0007),
        .init(0x14, 1, eax: 0x0249_0002, ebx: 0x003F_1FFF),
        .init(0x15, eax: 0x2, ebx: 0xA0, ecx: 25_000_000),
        .init(0x1C, eax: 0x4000_00FF, ebx: 0x7, ecx: 0x7),
        .init(0x1D, 0, eax: 0x1),
        .init(0x1D, 1, eax: 0x0400_2000, ebx: 0x0008_0040, ecx: 0x10),
        .init(0x1E, ebx: 0x4010),
        .init(0x8000_0000, eax: 0x8000_0008),
        .init(0x8000_0001, ecx: 0x121, edx: 0x2C10_0800),
        .init(0x8000_0006, ecx: 0x0800_7040),
        .init(0x8000_0007, edx: 0x100),
        .init(0x8000_0008, eax: 0x3934, ebx: 0x200),
    ]
}

extension ProcessorModel {
    private func find(_ leaf: UInt32, _ subleaf: UInt32?) -> Leaf? {
        leaves.first { $0.leaf == leaf && ($0.subleaf == nil || $0.subleaf == subleaf) }
    }

    /// CPUID's own answer.
    func native(_ leaf: UInt32, _ subleaf: UInt32) -> CPUIDWords {
        let found = find(leaf, subleaf)
        var words = found.map { CPUIDWords($0.eax, $0.ebx, $0.ecx, $0.edx) } ?? .zero
        if leaf == 1 { words.eax = signature }
        return words
    }

    /// The value that every TD's own starts from: the fixed bits are applied.
    func virtualBase(_ leaf: UInt32, _ subleaf: UInt32) -> CPUIDWords {
        guard let place = CPUIDLookup.place(leaf, subleaf) else { return .zero }
        let entry = CPUIDLookup.all[place]
        return native(leaf, subleaf) & ~entry.fixed0 | entry.fixed1
    }

    /// XCR0 and IA32_XSS bits of the processor that the module knows.
    var extendedStates: UInt64 {
        UInt64(native(0xD, 0).eax) & 0x602FF | UInt64(native(0xD, 1).ecx) & 0x1_FD00
    }

    /// TSC ticks per second.
    var tscFrequency: UInt64 {
        let words = native(0x15, 0)
        return words.eax == 0 ? 0 : UInt64(words.ecx) * UInt64(words.ebx) / UInt64(words.eax)
    }

    var hasTSXControl: Bool { archCapabilities & 1 << 7 != 0 }

    /// CPUID leaf 1 EAX of the processor generations that the module knows, each with its highest stepping: newest first.
    private static let generations: [UInt32] = [0xD06D0, 0xA06E0, 0xA06D0, 0xA06F0, 0xC06F2, 0x806F8]

    private static func isSameModel(_ a: UInt32, _ b: UInt32) -> Bool { a & ~0xF == b & ~0xF }

    /// What a migratable TD's signature may be: the processor's own, then that of each older generation.
    var allowedSignatures: [UInt32] {
        guard let place = Self.generations.firstIndex(where: { Self.isSameModel($0, signature) }) else {
            return [signature]
        }
        return [signature] + Self.generations[(place + 1)...]
    }

    func allowsSignature(_ value: UInt32) -> Bool {
        if Self.isSameModel(value, signature), value & 0xF > signature & 0xF { return false }
        guard let place = Self.generations.firstIndex(where: { Self.isSameModel($0, signature) }) else {
            return value == signature
        }
        let known = Self.generations[place...].first { Self.isSameModel($0, value) }
        return known.map { value & 0xF <= $0 & 0xF } ?? false
    }
}
