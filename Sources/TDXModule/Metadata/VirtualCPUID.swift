internal import TDXStatusCodes

/// What a TD sees of CPUID: the value of each of the module's 64 leaves, from the processor's and TD_PARAMS (reference §8.3).
struct VirtualCPUID: Sendable {
    /// By `CPUIDLookup.all`.
    private(set) var values = [CPUIDWords](repeating: .zero, count: CPUIDLookup.all.count)

    init() {}

    var hasTSX: Bool { CPUIDLookup.place(7, 0).map { values[$0].ebx & Bit.hle != 0 } ?? false }

    private enum Leaf {
        static let version: UInt32 = 1
        static let monitor: UInt32 = 5
        static let features: UInt32 = 7
        static let performance: UInt32 = 0xA
        static let extendedState: UInt32 = 0xD
        static let trace: UInt32 = 0x14
        static let tsc: UInt32 = 0x15
        static let keyLocker: UInt32 = 0x19
        static let lastBranch: UInt32 = 0x1C
        static let matrix: UInt32 = 0x1D
        static let addressSizes: UInt32 = 0x8000_0008
    }

    private enum Bit {
        static let monitor: UInt32 = 1 << 3
        static let hle: UInt32 = 1 << 4
        static let rtm: UInt32 = 1 << 11
        static let la57: UInt32 = 1 << 16
        static let keyLocker: UInt32 = 1 << 23
        static let supervisorKeys: UInt32 = 1 << 31
        static let xfd: UInt32 = 1 << 4
    }

    /// Bits of a leaf that go with XFAM bits.
    private static let version: [UInt64: CPUIDWords] = [2: CPUIDWords(0, 0, 0x3000_1000, 0)]
    private static let features: [UInt64: CPUIDWords] = {
        let avx512 = CPUIDWords(0, 0xDC23_0000, 0x5842, 0x80_010C)
        let shadowStack = CPUIDWords(0, 0, 0x80, 0x10_0000)
        let matrix = CPUIDWords(0, 0, 0, 0x340_0000)
        return [
            2: CPUIDWords(0, 0x20, 0x600, 0), 5: avx512, 6: avx512, 7: avx512, 8: CPUIDWords(0, 0x200_0000, 0, 0),
            9: CPUIDWords(0, 0, 0x8, 0), 11: shadowStack, 12: shadowStack, 14: CPUIDWords(0, 0, 0, 0x20),
            15: CPUIDWords(0, 0, 0, 0x8_0000), 17: matrix, 18: matrix,
        ]
    }()
    private static let features1: [UInt64: CPUIDWords] = [
        5: CPUIDWords(0x30, 0, 0, 0), 6: CPUIDWords(0x30, 0, 0, 0), 7: CPUIDWords(0x30, 0, 0, 0),
    ]
    private static let states: [UInt64: CPUIDWords] = [
        2: CPUIDWords(0x4, 0, 0, 0), 5: CPUIDWords(0xE0, 0, 0, 0), 6: CPUIDWords(0xE0, 0, 0, 0),
        7: CPUIDWords(0xE0, 0, 0, 0), 9: CPUIDWords(0x200, 0, 0, 0), 17: CPUIDWords(0x6_0000, 0, 0, 0),
        18: CPUIDWords(0x6_0000, 0, 0, 0),
    ]
    private static let states1: [UInt64: CPUIDWords] = [
        8: CPUIDWords(0, 0, 0x100, 0), 11: CPUIDWords(0, 0, 0x1800, 0), 12: CPUIDWords(0, 0, 0x1800, 0),
        14: CPUIDWords(0, 0, 0x4000, 0), 15: CPUIDWords(0, 0, 0x8000, 0),
    ]

    private static func hide(_ words: CPUIDWords, _ xfam: UInt64, _ masks: [UInt64: CPUIDWords]) -> CPUIDWords {
        masks.reduce(words) { xfam >> $1.key & 1 == 0 ? $0 & ~$1.value : $0 }
    }

    /// `configured` are the values of TD_PARAMS, by `CPUIDConfiguration.all`. The other parameters are checked already.
    init(
        _ configured: [CPUIDWords], _ parameters: TDParameters, _ processor: ProcessorModel
    ) throws(TDParameters.Refusal) {
        let invalid = TDXStatus.operandInvalid.with(.cpuidConfig)
        let xfam = parameters.xfam
        var hasMonitor = false
        var hasLA57 = false
        for (place, entry) in CPUIDLookup.all.enumerated() {
            var words = processor.virtualBase(entry.leaf, entry.subleaf)
            let name = UInt64(entry.leaf) | UInt64(entry.subleaf) << 32
            if let index = CPUIDLookup.configurations[place] {
                let (leaf, values) = (CPUIDConfiguration.all[index], configured[index])
                if values & ~(leaf.direct | leaf.allowed) != .zero {
                    throw TDParameters.Refusal(invalid, rcx: name)
                }
                words = (words & ~leaf.direct | values & leaf.direct) & (values | ~leaf.allowed)
            }
            switch entry.leaf {
            case Leaf.version:
                if words.eax == 0 { words.eax = processor.signature }
                let isAllowed =
                    parameters.isMigratable
                    ? processor.allowsSignature(words.eax) : words.eax == processor.signature
                if !isAllowed { throw TDParameters.Refusal(invalid, rcx: name) }
                words = Self.hide(words, xfam, Self.version)
                hasMonitor = words.ecx & Bit.monitor != 0
            case Leaf.monitor where !hasMonitor: words = .zero
            case Leaf.features where entry.subleaf == 0:
                words = Self.hide(words, xfam, Self.features)
                let (hle, rtm) = (words.ebx & Bit.hle != 0, words.ebx & Bit.rtm != 0)
                if hle != rtm { throw TDParameters.Refusal(invalid) }
                if hle, !processor.hasTSXControl {
                    throw TDParameters.Refusal(.incorrectMSRValue.with(details: 0x10A))
                }
                words.ecx &= ~(Bit.supervisorKeys | Bit.keyLocker)
                if parameters.hasSupervisorKeys { words.ecx |= Bit.supervisorKeys }
                hasLA57 = words.ecx & Bit.la57 != 0
            case Leaf.features where entry.subleaf == 1: words = Self.hide(words, xfam, Self.features1)
            case Leaf.performance where !parameters.hasPerformanceMonitoring: words = .zero
            case Leaf.extendedState: words = Self.extendedState(words, entry.subleaf, xfam, processor)
            case Leaf.trace where xfam >> 8 & 1 == 0: words = .zero
            case Leaf.tsc: words.ebx = UInt32(parameters.tscFrequency)
            case Leaf.keyLocker: words = .zero
            case Leaf.lastBranch where xfam >> 15 & 1 == 0: words = .zero
            case Leaf.matrix where xfam >> 17 & 3 != 3: words = .zero
            case Leaf.addressSizes: words.eax = words.eax & ~0xFF00 | (hasLA57 ? 57 : 48) << 8
            default: break
            }
            values[place] = words
        }
    }

    private static func extendedState(
        _ words: CPUIDWords, _ subleaf: UInt32, _ xfam: UInt64, _ processor: ProcessorModel
    ) -> CPUIDWords {
        switch subleaf {
        case 0:
            var result = hide(words, xfam, states)
            result.ecx = UInt32(ExtendedState.size(of: xfam, processor))
            return result
        case 1:
            var result = hide(words, xfam, states1)
            if ExtendedState.faultingMask(processor) & xfam == 0 { result.eax &= ~Bit.xfd }
            return result
        default: return xfam >> UInt64(subleaf) & 1 == 0 ? .zero : words
        }
    }
}

/// The XSAVE area of a TD, by the components that XFAM gives it.
enum ExtendedState {
    private static let lastComponent: UInt32 = 18
    /// Legacy region and header.
    private static let firstOffset: UInt64 = 576
    private static let userMask: UInt64 = 0x602FF

    /// Components that can raise #NM through XFD.
    static func faultingMask(_ processor: ProcessorModel) -> UInt64 {
        guard processor.native(0xD, 1).eax & 0x10 != 0 else { return 0 }
        return (2...lastComponent).reduce(0) { processor.native(0xD, $1).ecx & 4 != 0 ? $0 | 1 << UInt64($1) : $0 }
    }

    /// Bytes of the standard format for the user components of XFAM.
    static func size(of xfam: UInt64, _ processor: ProcessorModel) -> UInt64 {
        (2...lastComponent).reduce(firstOffset) { size, component in
            guard xfam & userMask & 1 << UInt64(component) != 0 else { return size }
            let words = processor.native(0xD, component)
            return max(size, UInt64(words.ebx) + UInt64(words.eax))
        }
    }

    /// Offsets of all components of XFAM in the compacted buffer of a vCPU, and the buffer's bytes.
    static func buffer(of xfam: UInt64, _ processor: ProcessorModel) -> (offsets: [UInt64], size: UInt64) {
        var offsets = [UInt64](repeating: 0, count: Int(lastComponent) + 1)
        var offset = firstOffset
        for component in 2...lastComponent where xfam >> UInt64(component) & 1 != 0 {
            let words = processor.native(0xD, component)
            if words.ecx & 2 != 0 { offset = (offset + 63) & ~63 }
            offsets[Int(component)] = offset
            offset += UInt64(words.eax)
        }
        return (offsets, offset)
    }
}
