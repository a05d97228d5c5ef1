/// An operand id, the low 32 bits of operand and busy conditions (reference §3.3). Unknown ids are kept.
@frozen
public struct Operand: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
    @inlinable public init(_ id: UInt32) { rawValue = id }

    @inlinable public static var rax: Operand { Operand(0) }
    @inlinable public static var rcx: Operand { Operand(1) }
    @inlinable public static var rdx: Operand { Operand(2) }
    @inlinable public static var rbx: Operand { Operand(3) }
    @inlinable public static var rbp: Operand { Operand(5) }
    @inlinable public static var rsi: Operand { Operand(6) }
    @inlinable public static var rdi: Operand { Operand(7) }
    @inlinable public static var r8: Operand { Operand(8) }
    @inlinable public static var r9: Operand { Operand(9) }
    @inlinable public static var r10: Operand { Operand(10) }
    @inlinable public static var r11: Operand { Operand(11) }
    @inlinable public static var r12: Operand { Operand(12) }
    @inlinable public static var r13: Operand { Operand(13) }
    @inlinable public static var r14: Operand { Operand(14) }
    @inlinable public static var r15: Operand { Operand(15) }
    @inlinable public static var attributes: Operand { Operand(64) }
    @inlinable public static var xfam: Operand { Operand(65) }
    @inlinable public static var configFlags: Operand { Operand(66) }
    @inlinable public static var eptpControls: Operand { Operand(67) }
    @inlinable public static var maxVCPUs: Operand { Operand(68) }
    @inlinable public static var cpuidConfig: Operand { Operand(69) }
    @inlinable public static var tscFrequency: Operand { Operand(70) }
    @inlinable public static var numberOfL2VMs: Operand { Operand(71) }
    @inlinable public static var archCapabilitiesConfig: Operand { Operand(72) }
    @inlinable public static var page: Operand { Operand(95) }
    @inlinable public static var tdmrInfoAddress: Operand { Operand(96) }
    @inlinable public static var tdr: Operand { Operand(128) }
    @inlinable public static var tdcx: Operand { Operand(129) }
    @inlinable public static var tdvpr: Operand { Operand(130) }
    @inlinable public static var registerPage: Operand { Operand(132) }
    @inlinable public static var tdcs: Operand { Operand(144) }
    @inlinable public static var tdvps: Operand { Operand(145) }
    @inlinable public static var septTree: Operand { Operand(146) }
    @inlinable public static var septEntry: Operand { Operand(147) }
    @inlinable public static var rtmr: Operand { Operand(168) }
    @inlinable public static var tdEpoch: Operand { Operand(169) }
    @inlinable public static var opState: Operand { Operand(172) }
    @inlinable public static var metadataField: Operand { Operand(176) }
    @inlinable public static var sys: Operand { Operand(184) }
    @inlinable public static var tdmr: Operand { Operand(185) }
    @inlinable public static var kot: Operand { Operand(186) }
    @inlinable public static var ket: Operand { Operand(187) }
    @inlinable public static var wbcache: Operand { Operand(188) }

    /// The name as the module's documentation spells it; nil for an id that it does not define.
    public var name: String? { Self.names[rawValue] }

    private static let names: [UInt32: String] = [
        0: "RAX", 1: "RCX", 2: "RDX", 3: "RBX", 5: "RBP", 6: "RSI", 7: "RDI", 8: "R8", 9: "R9", 10: "R10",
        11: "R11", 12: "R12", 13: "R13", 14: "R14", 15: "R15",
        64: "ATTRIBUTES", 65: "XFAM", 66: "CONFIG_FLAGS", 67: "EPTP_CONTROLS", 68: "MAX_VCPUS", 69: "CPUID_CONFIG",
        70: "TSC_FREQUENCY", 71: "NUM_L2_VMS", 72: "ARCH_CAPABILITIES_CONFIG",
        95: "PAGE", 96: "TDMR_INFO_PA", 97: "GPA_LIST_ENTRY", 98: "MIG_BUFF_LIST_ENTRY", 99: "NEW_PAGE_LIST_ENTRY",
        128: "TDR", 129: "TDCX", 130: "TDVPR", 132: "REG_PAGE", 144: "TDCS", 145: "TDVPS", 146: "SEPT_TREE",
        147: "SEPT_ENTRY", 168: "RTMR", 169: "TD_EPOCH", 170: "L2_VAPIC_GPA", 171: "MIGSC", 172: "OP_STATE",
        173: "MIG", 174: "SERVTD_BINDINGS", 176: "METADATA_FIELD", 177: "NUM_VCPUS", 178: "CPUID_FIXED0",
        184: "SYS", 185: "TDMR", 186: "KOT", 187: "KET", 188: "WBCACHE",
    ]
}
