public import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

/// Fields of a vCPU whose value is not just what was last written; the raw value is the published identifier.
enum VCPUField: UInt64, CaseIterable, Sendable {
    case controlPins = 0x0024_0002_0000_4000
    case tscOffset = 0x0024_0003_0000_2010
    case tscMultiplier = 0x0024_0003_0000_2032
    case stateDetails = 0x9120_0003_0000_0100
    case condition = 0xA020_0000_0000_0000
    case index = 0xA020_0002_0000_0002
    case pageCount = 0xA020_0000_0000_0003
    case processor = 0xA020_0002_0000_0004
    case epoch = 0xA020_0003_0000_0006
    case lastExit = 0xA020_0000_0000_000F
    case pages = 0xA020_0003_0000_0010
    case notificationVector = 0x0024_0001_0000_0002
    case postedDescriptor = 0x0024_0003_0000_2016
    case sharedEPTPointer = 0x0024_0003_0000_203C
    case notifyWindow = 0x0024_0002_0000_4024
    case xcr0 = 0x1120_0003_0000_0020
    case xss = 0x1320_0003_0000_0DA0
    case xfam = 0x2020_0003_0000_000C
    case extendedState = 0x1220_0003_0000_0000

    /// The published rows: first the VMCS's, then those of TDVPS, without the nested VMs'.
    static let table = published.filtered { !nestedClasses.contains($0.id.classCode) }

    /// All 144 and 119 published rows.
    static let published = MetadataTable(
        .vcpu,
        """
        0024000100000000    1  1  -    -    all  -    -    -
        0024000100000002    1  1  all  all  all  all  -    -
        0024000100000004    1  1  -    -    all  -    -    -
        0024000100000006    1  1  -    -    all  -    -    -
        0024000100000800    1  1  -    -    all  all  -    -
        0024000100000802    1  1  -    -    all  all  -    -
        0024000100000804    1  1  -    -    all  all  -    -
        0024000100000806    1  1  -    -    all  all  -    -
        0024000100000808    1  1  -    -    all  all  -    -
        002400010000080A    1  1  -    -    all  all  -    -
        002400010000080C    1  1  -    -    all  all  -    -
        002400010000080E    1  1  -    -    all  all  -    -
        0024000100000810    1  1  -    -    all  all  -    -
        0024000100000812    1  1  -    -    all  all  -    -
        0024000100000814    1  1  -    -    all  all  -    -
        0024000300002000    2  1  -    -    all  -    -    -
        0024000300002004    1  1  all  -    all  -    -    -    hpa
        0024000300002006    1  1  -    -    all  -    -    -    hpa
        0024000300002008    1  1  -    -    all  -    -    -    hpa
        002400030000200A    1  1  -    -    all  -    -    -    hpa
        002400030000200C    1  1  -    -    -    -    -    -    hpa
        002400030000200E    1  1  all  -    all  fffffffffffff000 -    -    shared-hpa
        0024000300002010    1  1  all  -    all  all  -    -
        0024000300002012    1  1  -    -    -    -    -    -    hpa
        0024000300002014    1  1  -    -    all  -    -    -    hpa
        0024000300002016    1  1  all  ffffffffffffffc0 all  ffffffffffffffc0 -    -    shared-hpa
        0024000300002018    1  1  all  -    all  -    -    -
        002400030000201A    1  1  all  -    all  -    -    -
        002400030000201C    4  1  -    -    all  -    -    -
        0024000300002024    1  1  all  -    all  -    -    -
        0024000300002026    1  1  -    -    all  -    -    -
        0024000300002028    1  1  -    -    all  -    -    -
        002400030000202A    1  1  -    -    all  -    -    -
        002400030000202C    1  1  -    -    all  all  -    -
        002400030000202E    1  1  -    -    all  -    -    -
        0024000300002032    1  1  all  -    all  all  -    -
        0024000300002034    1  1  -    -    all  1    -    -
        0024000300002036    1  1  -    -    all  -    -    -
        0024000300002038    1  1  -    -    all  -    -    -    hpa
        002400030000203A    1  1  -    -    all  -    -    -    hpa
        002400030000203C    1  1  ffffffffff000 ffffffffff000 all  ffffffffff000 -    -    shared-hpa
        002400030000203E    1  1  -    -    all  -    -    -
        0024000300002040    1  1  -    -    all  -    -    -
        002400030000204A    1  1  -    -    all  -    -    -
        002400030000204C    1  1  -    -    all  -    -    -
        0024000300002400    1  1  -    -    all  -    -    -
        0024000300002800    1  1  -    -    -    -    -    -    hpa
        0024000300002802    1  1  -    -    all  ffc7 -    -
        0024000300002804    1  1  -    -    all  all  -    -
        0024000300002806    1  1  -    -    all  all  -    -
        0024000300002808    1  1  -    -    all  all  -    -
        002400030000280A    4  1  -    -    all  -    -    -    private-gpa
        0024000300002814    1  1  -    -    all  all  -    -
        0024000300002816    1  1  -    -    all  all  -    -
        0024000300002818    1  1  -    -    all  all  -    -
        0024000200004000    1  1  80   80   all  80   -    -
        0024000200004002    1  1  -    -    all  69999a04 -    -
        0024000200004004    1  1  -    -    all  fffbffff -    -
        0024000200004006    1  1  -    -    all  all  -    -
        0024000200004008    1  1  -    -    all  all  -    -
        002400020000400A    1  1  -    -    all  all  -    -
        002400020000400C    1  1  -    -    all  -    -    -
        002400020000400E    1  1  -    -    all  -    -    -
        0024000200004010    1  1  -    -    all  -    -    -
        0024000200004012    1  1  -    -    all  -    -    -
        0024000200004014    1  1  -    -    all  -    -    -
        0024000200004016    1  1  -    -    all  -    -    -
        0024000200004018    1  1  -    -    all  -    -    -
        002400020000401A    1  1  -    -    all  -    -    -
        002400020000401C    1  1  -    -    all  -    -    -
        002400020000401E    1  1  c0000000 c0000000 all  c0130c04 -    -
        0024000200004020    1  1  all  -    all  all  -    -
        0024000200004022    1  1  all  -    all  all  -    -
        0024000200004024    1  1  all  all  all  all  -    -
        0024000200004026    1  1  all  -    all  -    -    -
        0024000200004400    1  1  -    -    all  -    -    -
        0024000200004402    1  1  -    -    all  -    -    -
        0024000200004404    1  1  -    -    all  -    -    -
        0024000200004406    1  1  -    -    all  -    -    -
        0024000200004408    1  1  -    -    all  -    -    -
        002400020000440A    1  1  -    -    all  -    -    -
        002400020000440C    1  1  -    -    all  -    -    -
        002400020000440E    1  1  -    -    all  -    -    -
        0024000200004800    1  1  -    -    all  all  -    -
        0024000200004802    1  1  -    -    all  all  -    -
        0024000200004804    1  1  -    -    all  all  -    -
        0024000200004806    1  1  -    -    all  all  -    -
        0024000200004808    1  1  -    -    all  all  -    -
        002400020000480A    1  1  -    -    all  all  -    -
        002400020000480C    1  1  -    -    all  all  -    -
        002400020000480E    1  1  -    -    all  all  -    -
        0024000200004810    1  1  -    -    all  all  -    -
        0024000200004812    1  1  -    -    all  all  -    -
        0024000200004814    1  1  -    -    all  all  -    -
        0024000200004816    1  1  -    -    all  all  -    -
        0024000200004818    1  1  -    -    all  all  -    -
        002400020000481A    1  1  -    -    all  all  -    -
        002400020000481C    1  1  -    -    all  all  -    -
        002400020000481E    1  1  -    -    all  all  -    -
        0024000200004820    1  1  -    -    all  all  -    -
        0024000200004822    1  1  -    -    all  all  -    -
        0024000200004824    1  1  -    -    all  all  -    -
        0024000200004826    1  1  -    -    all  -    -    -
        0024000200004828    1  1  -    -    -    -    -    -
        002400020000482A    1  1  -    -    all  all  -    -
        002400020000482E    1  1  -    -    all  all  -    -
        0024000300006000    1  1  -    -    all  ffffffff9fffffde -    -
        0024000300006002    1  1  -    -    all  ffffffffffff9fbf -    -
        0024000300006004    1  1  -    -    all  ffffffffffffffde -    -
        0024000300006006    1  1  -    -    all  ffffffffffffffbf -    -
        0024000300006008    4  1  -    -    all  all  -    -
        0024000300006400    1  1  -    -    all  -    -    -
        0024000300006402    1  1  -    -    all  -    -    -
        0024000300006404    1  1  -    -    all  -    -    -
        0024000300006406    1  1  -    -    all  -    -    -
        0024000300006408    1  1  -    -    all  -    -    -
        002400030000640A    1  1  -    -    all  -    -    -
        0024000300006800    1  1  -    -    all  all  -    -
        0024000300006802    1  1  -    -    all  all  -    -    private-gpa
        0024000300006804    1  1  -    -    all  all  -    -
        0024000300006806    1  1  -    -    all  all  -    -
        0024000300006808    1  1  -    -    all  all  -    -
        002400030000680A    1  1  -    -    all  all  -    -
        002400030000680C    1  1  -    -    all  all  -    -
        002400030000680E    1  1  -    -    all  all  -    -
        0024000300006810    1  1  -    -    all  all  -    -
        0024000300006812    1  1  -    -    all  all  -    -
        0024000300006814    1  1  -    -    all  all  -    -
        0024000300006816    1  1  -    -    all  all  -    -
        0024000300006818    1  1  -    -    all  all  -    -
        002400030000681A    1  1  -    -    all  all  -    -
        002400030000681C    1  1  -    -    all  all  -    -
        002400030000681E    1  1  -    -    all  all  -    -
        0024000300006820    1  1  -    -    all  all  -    -
        0024000300006822    1  1  -    -    all  all  -    -
        0024000300006824    1  1  -    -    all  all  -    -
        0024000300006826    1  1  -    -    all  all  -    -
        0024000300006828    1  1  -    -    all  all  -    -
        002400030000682A    1  1  -    -    all  all  -    -
        002400030000682C    1  1  -    -    all  all  -    -
        0024000300006C08    1  1  -    -    -    -    -    -
        0024000300006C14    1  1  -    -    -    -    -    -
        0024000300006C16    1  1  -    -    -    -    -    -
        0024000300006C1A    1  1  -    -    -    -    -    -
        0120000300000000  128  1  -    -    all  -    -    -
        0220000200000000    1  1  -    -    all  -    -    -
        0220000200000001    1  1  -    -    all  -    -    -
        0220000300000002    1  1  -    -    all  -    -    -
        0220000300000003    1  1  -    -    all  -    -    -
        0220000300000004    1  1  -    -    all  -    -    -
        0220000100000005    1  1  -    -    all  -    -    -
        8220000200000010    1  1  -    -    all  -    -    -
        8220000200000011    1  1  -    -    all  -    -    -
        1020000300000000    1  1  -    -    all  all  -    -
        1020000300000001    1  1  -    -    all  all  -    -
        1020000300000002    1  1  -    -    all  all  -    -
        1020000300000003    1  1  -    -    all  all  -    -
        1020000300000004    1  1  -    -    -    -    -    -
        1020000300000005    1  1  -    -    all  all  -    -
        1020000300000006    1  1  -    -    all  all  -    -
        1020000300000007    1  1  -    -    all  all  -    -
        1020000300000008    1  1  -    -    all  all  -    -
        1020000300000009    1  1  -    -    all  all  -    -
        102000030000000A    1  1  -    -    all  all  -    -
        102000030000000B    1  1  -    -    all  all  -    -
        102000030000000C    1  1  -    -    all  all  -    -
        102000030000000D    1  1  -    -    all  all  -    -
        102000030000000E    1  1  -    -    all  all  -    -
        102000030000000F    1  1  -    -    all  all  -    -
        1120000300000000    1  1  -    -    all  all  -    -
        1120000300000001    1  1  -    -    all  all  -    -
        1120000300000002    1  1  -    -    all  all  -    -
        1120000300000003    1  1  -    -    all  all  -    -
        1120000300000006    1  1  -    -    all  ffffffff -    -
        1120000300000020    1  1  -    -    all  -    -    -
        1120000300000028    1  1  -    -    all  all  -    -
        9120000300000100    1  1  all  -    all  -    -    -
        1220000300000000 1536  1  -    -    all  all  -    -
        1320000300000048    1  1  -    -    all  all  -    -
        13200003000000E1    1  1  -    -    all  all  -    -
        1320000300000122    1  1  -    -    all  all  -    -
        1320000300000186    8  1  -    -    all  all  -    -
        13200003000001A6    2  1  -    -    all  all  -    -
        13200003000001C4    1  1  -    -    all  -    -    -
        13200003000001C5    1  1  -    -    all  -    -    -
        1320000300000309    7  1  -    -    all  all  -    -
        1320000300000329    1  1  -    -    all  all  -    -
        132000030000038D    1  1  -    -    all  all  -    -
        132000030000038E    1  1  -    -    all  -    -    -
        13200003000003F1    1  1  -    -    all  all  -    -
        13200003000003F2    1  1  -    -    all  all  -    -
        13200003000003F6    1  1  -    -    all  all  -    -
        13200003000003F7    1  1  -    -    all  all  -    -
        13200003000004C1    8  1  -    -    all  all  -    -
        1320000300000600    1  1  -    -    all  all  -    -
        1320000300000DA0    1  1  -    -    all  -    -    -
        13200003000014CF    1  1  -    -    all  all  -    -
        1320000300001B01    1  1  -    -    all  all  -    -
        1320000300002081    1  1  -    -    all  -    -    -
        1320000300002082    1  1  -    -    all  -    -    -
        1320000300002084    1  1  -    -    all  -    -    -
        1320000300002102    1  1  -    -    all  -    -    -
        1320000300002103    1  1  -    -    all  all  -    -
        A020000000000000    1  1  -    -    all  -    -    -
        A020000200000002    1  1  all  -    all  -    all  -
        A020000000000003    1  1  all  -    all  -    -    -
        A020000200000004    1  1  all  -    all  -    -    -
        A020000300000006    1  1  all  -    all  -    -    -
        A020000000000007    1  1  all  -    all  -    all  all
        A020000000000008    1  1  all  -    all  -    all  all
        A02000030000000A    1  1  -    -    all  -    -    -
        202000000000000B    1  1  all  all  all  all  -    -
        202000030000000C    1  1  all  -    all  all  -    -
        A02000000000000D    1  1  -    -    all  -    -    -
        A02000000000000E    1  1  -    -    all  -    -    -
        A02000000000000F    1  1  -    -    all  -    -    -
        A020000300000010   15  1  all  -    all  -    -    -    hpa
        A020000300000030    1  1  -    -    all  -    -    -
        A020000000000031    1  1  -    -    all  -    -    -
        A020000300000032    1  1  -    -    all  -    -    -
        A020000000000040    1  1  -    -    all  -    -    -
        A020000100000041    1  1  -    -    all  -    -    -
        A020000000000042    1  1  -    -    all  -    -    -
        A020000000000044    4  1  -    -    all  -    -    -
        A020000000000048    4  1  -    -    all  -    -    -
        A02000000000004C    4  1  -    -    all  -    -    -
        A020000300000050    4  1  -    -    all  7    all  7
        A020000300000054    4  1  -    -    all  7    -    -
        A020000300000058    4  1  -    -    all  -    all  all
        A02000030000005C    4  1  -    -    all  -    -    -
        A020000300000080    1  1  -    -    all  ffffffff9fffffdf -    -
        A020000300000081    1  1  -    -    all  ffffffff9fffffdf -    -
        A020000300000082    1  1  -    -    all  ffffffffffff9fbf -    -
        A020000300000083    1  1  -    -    all  ffffffff9fffffdf -    -
        A020000300000084    4  1  -    -    all  -    -    -
        A020000300000088    4  1  -    -    all  -    -    -
        A02000030000008C    4  1  -    -    all  -    -    -
        A020000300000090    4  1  -    -    all  -    -    -
        A020000200000094    4  1  -    -    all  -    -    -
        A020000300000098    4  1  -    -    all  -    -    -    shared-hpa
        A02000020000009C    4  1  -    -    all  -    -    -
        A0200002000000A4    4  1  -    -    all  -    -    -
        A0200002000000A8    4  1  -    -    all  -    -    -
        A0200001000000AC    4  1  -    -    all  -    -    -
        A0200002000000B0    4  1  -    -    all  -    -    -
        A0200003000000B4    4  1  -    -    all  -    -    -    shared-hpa
        A020000300000100    4  1  -    -    all  -    -    -    private-gpa
        A020000300000104    4  1  -    -    all  -    -    -    hpa
        A020000300000108    4  1  -    -    all  -    -    -    private-gpa
        A02000030000010C    4  1  -    -    all  -    -    -    hpa
        A020000300000110    4  1  -    -    all  -    -    -    private-gpa
        A020000300000114    4  1  -    -    all  -    -    -    hpa
        A120000000000000  128  1  -    -    all  -    all  3
        A220000300000200   32  1  -    -    all  -    -    -    private-gpa
        2420000000000000 4096  1  -    -    -    -    -    -
        2520000300000000  512  1  -    -    all  all  all  all
        A620000300000000  512  1  -    -    all  -    -    -
        2C20000000000000 4096  1  -    -    -    -    -    -
        2D20000300000000  512  1  -    -    all  all  all  all
        AE20000300000000  512  1  -    -    all  -    -    -
        3420000000000000 4096  1  -    -    -    -    -    -
        3520000300000000  512  1  -    -    all  all  all  all
        B620000300000000  512  1  -    -    all  -    -    -
        """)

    private static let nestedClasses: Set<UInt8> = [0x24, 0x25, 0x26, 0x2C, 0x2D, 0x2E, 0x34, 0x35, 0x36]
}

/// The fields of a vCPU that hold what was written, or what VP.INIT put there.
struct VCPUFieldStore: Sendable {
    private var values: [UInt64: UInt64] = [:]

    private static func key(_ id: FieldID) -> UInt64 { UInt64(id.classCode) << 24 | id.code }

    subscript(id: FieldID) -> UInt64 {
        get { values[Self.key(id)] ?? 0 }
        set { values[Self.key(id)] = newValue }
    }

    private subscript(vmcs encoding: UInt64) -> UInt64 {
        get { values[encoding] ?? 0 }
        set { values[encoding] = newValue }
    }

    /// The VMCS encodings that the module looks at.
    enum VMCS {
        static let notificationVector: UInt64 = 0x2
        static let interruptStatus: UInt64 = 0x810
        static let msrBitmap: UInt64 = 0x2004
        static let virtualAPIC: UInt64 = 0x2012
        static let postedDescriptor: UInt64 = 0x2016
        static let eptPointer: UInt64 = 0x201A
        static let sharedEPTPointer: UInt64 = 0x203C
        static let pinControls: UInt64 = 0x4000
        static let postedInterrupts: UInt64 = 1 << 7
    }

    static let noNotificationVector: UInt64 = 0xFFFF
    static let noAddress: UInt64 = .max
    /// Words of the virtual-APIC page: processor priority is the byte at 0xA0.
    static let processorPriority = FieldID(0x0120_0003_0000_0014)

    /// What VP.INIT writes to a vCPU's VMCS: addresses that are none, and the state in which the guest begins.
    private static let initial: [UInt64: UInt64] = {
        var values: [UInt64: UInt64] = [
            0x681A: 0x400, 0x681E: 0xFFFF_FFF0, 0x6820: 0x2, 0x2808: 0xFF, 0x2804: 0x0007_0406_0007_0406, 0x2806: 0x901,
            0x6800: 0x21, 0x6804: 0x2040, 0x4004: 1 << 18, VMCS.notificationVector: noNotificationVector,
        ]
        for limit: UInt64 in [0x4800, 0x4802, 0x4804, 0x4806, 0x4808, 0x480A] { values[limit] = 0xFFFF_FFFF }
        for limit: UInt64 in [0x480C, 0x480E, 0x4810] { values[limit] = 0xFFFF }
        for rights: UInt64 in [0x4814, 0x4818, 0x481A, 0x481C, 0x481E] { values[rights] = 0xC093 }
        (values[0x4816], values[0x4820], values[0x4822]) = (0xC09B, 0x1_0082, 0x8B)
        for address: UInt64 in [
            0x2014, VMCS.postedDescriptor, 0x2000, 0x2002, 0x2024, 0x2026, 0x2028, 0x202E, 0x200E, 0x203E, 0x200C,
            0x2006,
            0x2008, 0x200A, 0x2800, 0x280A, 0x280C, 0x280E, 0x2810,
        ] { values[address] = noAddress }
        return values
    }()

    mutating func initialize() { values = Self.initial }

    mutating func setVMCS(_ encoding: UInt64, _ value: UInt64) { self[vmcs: encoding] = value }
    func vmcs(_ encoding: UInt64) -> UInt64 { self[vmcs: encoding] }
}

extension TDXModule {
    /// The highest interrupt that waits in the vCPU's virtual APIC (RVI), nil for none: what a posted interrupt leaves
    /// when its vCPU is not inside. VP.RD of VCPU_STATE_DETAILS shows it to the host. False when the page is not a TDVPR.
    @discardableResult
    public func setRequestedInterrupt(_ vector: UInt8?, vcpu tdvpr: HostPhysicalAddress) -> Bool {
        var page: LockedPage?
        guard lockPrivate(tdvpr.rawValue, .tdvpr, exclusive: false, .rcx, into: &page).isSuccess, let page else {
            return false
        }
        defer { unlock(page) }
        let encoding = VCPUFieldStore.VMCS.interruptStatus
        vcpuBlock(page.entry.at(1).get()).details.contents.withLock { contents in
            let inService = contents.fields.vmcs(encoding) & 0xFF00
            contents.fields.setVMCS(encoding, inService | UInt64(vector ?? 0))
        }
        return true
    }

    /// VP.INIT: the vCPU's fields as the guest finds them.
    func initializeFields(_ contents: inout VCPUContext.Contents, _ access: VCPUAccess) {
        let key = access.owner.state.key
        let (pages, parameters) = access.owner.td.details.contents.withLock { ($0.controlPages, $0.parameters) }
        contents.fields.initialize()
        typealias VMCS = VCPUFieldStore.VMCS
        // The zero page of TDCS stands for a shared EPT that the host has not given yet.
        if pages.count > 4 {
            contents.fields.setVMCS(VMCS.msrBitmap, withKey(pages[2], key))
            contents.fields.setVMCS(VMCS.sharedEPTPointer, withKey(pages[4], key))
        }
        if contents.pages.count > 2 { contents.fields.setVMCS(VMCS.virtualAPIC, withKey(contents.pages[2], key)) }
        contents.fields.setVMCS(VMCS.eptPointer, eptPointer(access.owner.td))
        func set(_ raw: UInt64, _ value: UInt64) { contents.fields[FieldID(raw)] = value }
        let registers: UInt64 = 0x1020_0003_0000_0000
        set(registers | 1, contents.initialValue)
        set(registers | 2, UInt64(platform.processor.virtualBase(1, CPUIDConfiguration.none).eax))
        set(registers | 3, parameters.isWide ? 52 : 48)
        set(registers | 6, UInt64(contents.index))
        set(registers | 8, contents.initialValue)
        set(VCPUField.xcr0.rawValue, 1)
        set(VCPUField.xfam.rawValue, parameters.xfam)
        set(0x1120_0003_0000_0006, 0xFFFF_0FF0)
        set(0x1320_0003_0000_2084, 0x2_0200)
    }

    /// A field's element, unmasked.
    func value(of id: FieldID, _ row: MetadataRow, _ access: VCPUAccess) -> UInt64 {
        let (vcpu, td) = (access.vcpu, access.owner.td)
        let state = VCPUState(vcpu.pointee.state.get())
        func stored() -> UInt64 { vcpu.details.contents.withLock { $0.fields[id] } }
        switch VCPUField(rawValue: row.id.raw) {
        case .tscOffset: return td.details.contents.withLock { $0.tscOffset }
        case .tscMultiplier: return td.details.contents.withLock { $0.tscMultiplier }
        case .stateDetails:
            return vcpu.details.contents.withLock { contents in
                let requested = contents.fields.vmcs(VCPUFieldStore.VMCS.interruptStatus) & 0xF0
                let priority = contents.fields[VCPUFieldStore.processorPriority] & 0xF0
                return requested > priority ? 1 : 0
            }
        case .condition: return UInt64(state.condition)
        case .index: return UInt64(vcpu.details.contents.withLock { $0.index })
        case .pageCount: return UInt64(state.pages)
        case .processor: return UInt64(state.processor)
        case .epoch: return vcpu.pointee.epoch.get()
        case .lastExit: return UInt64(state.lastExit)
        case .pages:
            let place = row.place(of: id)
            return vcpu.details.contents.withLock {
                place < $0.pages.count ? withKey($0.pages[place], access.owner.state.key) : 0
            }
        case .controlPins, .notificationVector, .postedDescriptor, .sharedEPTPointer, .notifyWindow, .xcr0, .xss, .xfam,
            .extendedState, nil:
            return stored()
        }
    }

    private func find(_ id: FieldID) -> MetadataRow? {
        guard id.namesOneElement, let index = VCPUField.table.row(of: id) else { return nil }
        let row = VCPUField.table.rows[index]
        // The "high" code of a VMCS field is not an identifier.
        return row.id.stride == 2 && id.code & 1 != 0 ? nil : row
    }

    /// A field's element as a read shows it.
    func readVCPU(_ id: FieldID, _ reader: MetadataAccess, _ access: VCPUAccess) -> MetadataResult {
        guard let row = find(id) else { return .refused(.metadataFieldIDIncorrect) }
        let mask = row.readMask(reader)
        if mask == 0 { return .refused(.metadataFieldNotReadable) }
        return .value(value(of: id, row, access) & mask & row.id.elementMask)
    }

    /// Writes `value` under `mask`; the result is the former value as the writer may read it.
    func writeVCPU(
        _ id: FieldID, _ value: UInt64, mask: UInt64, _ writer: MetadataAccess, _ access: VCPUAccess
    ) -> MetadataResult {
        guard let row = find(id) else { return .refused(.metadataFieldIDIncorrect) }
        let writable = row.writeMask(writer) & mask
        if writable == 0 { return .refused(.metadataFieldNotWritable) }
        let old = self.value(of: id, row, access) & row.id.elementMask
        var base = writable == row.id.elementMask ? 0 : old
        // A physical address that was never written is all ones; bits that the mask leaves out start as zeros.
        if row.attribute != .none, base >> 63 != 0 { base &= row.writeMask(writer) }
        let forbidden = mask & ~row.writeMask(writer)
        if base & forbidden != value & forbidden { return .refused(.metadataFieldValueNotValid) }
        let new = base & ~writable | value & writable
        if let refusal = checkAttribute(row, new, access) ?? checkValue(row, id, new, access) {
            return .refused(refusal)
        }
        access.vcpu.details.contents.withLock { $0.fields[id] = new }
        return .value(old & row.readMask(writer))
    }

    private func checkAttribute(_ row: MetadataRow, _ value: UInt64, _ access: VCPUAccess) -> TDXStatus? {
        switch row.attribute {
        case .none, .hostAddress: return nil
        case .sharedHostAddress: return sharedOperand(value, alignment: 1) == nil ? .metadataFieldValueNotValid : nil
        case .privateGuestAddress:
            return value >> 52 == 0 && isPrivate(value, access.owner) ? nil : .metadataFieldValueNotValid
        }
    }

    /// What a field's value must be beyond masks and attributes.
    private func checkValue(_ row: MetadataRow, _ id: FieldID, _ value: UInt64, _ access: VCPUAccess) -> TDXStatus? {
        typealias VMCS = VCPUFieldStore.VMCS
        let xfam = access.owner.td.details.contents.withLock { $0.parameters.xfam }
        switch VCPUField(rawValue: row.id.raw) {
        case .controlPins:
            if value & VMCS.postedInterrupts == 0 { return nil }
            // Posted interrupts need their vector and descriptor first.
            return access.vcpu.details.contents.withLock { contents in
                if contents.fields.vmcs(VMCS.notificationVector) == VCPUFieldStore.noNotificationVector {
                    return .tdVMCSFieldNotInitialized.with(details: UInt32(VMCS.notificationVector))
                }
                if contents.fields.vmcs(VMCS.postedDescriptor) == VCPUFieldStore.noAddress {
                    return .tdVMCSFieldNotInitialized.with(details: UInt32(VMCS.postedDescriptor))
                }
                return nil
            }
        case .notificationVector: return value <= 255 ? nil : .metadataFieldValueNotValid
        case .xcr0: return value & 1 != 0 && value & ~(xfam & 0x602FF) == 0 ? nil : .metadataFieldValueNotValid
        case .xss: return value & ~xfam == 0 ? nil : .metadataFieldValueNotValid
        case .xfam: return .metadataFieldNotWritable
        // The XSAVE header.
        case .extendedState: return (64..<72).contains(row.place(of: id)) ? .metadataFieldNotWritable : nil
        case .tscOffset, .tscMultiplier, .stateDetails, .condition, .index, .pageCount, .processor, .epoch, .lastExit,
            .pages, .postedDescriptor, .sharedEPTPointer, .notifyWindow, nil:
            return nil
        }
    }
}
