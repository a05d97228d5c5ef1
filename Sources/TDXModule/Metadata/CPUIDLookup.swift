/// Four registers that CPUID fills, or masks of them.
struct CPUIDWords: Hashable, Sendable {
    var eax: UInt32 = 0
    var ebx: UInt32 = 0
    var ecx: UInt32 = 0
    var edx: UInt32 = 0

    static let zero = CPUIDWords()

    init() {}
    init(_ eax: UInt32, _ ebx: UInt32, _ ecx: UInt32, _ edx: UInt32) {
        (self.eax, self.ebx, self.ecx, self.edx) = (eax, ebx, ecx, edx)
    }

    /// EBX:EAX and EDX:ECX, as metadata fields hold them.
    var low: UInt64 { UInt64(eax) | UInt64(ebx) << 32 }
    var high: UInt64 { UInt64(ecx) | UInt64(edx) << 32 }

    static func & (a: Self, b: Self) -> Self { Self(a.eax & b.eax, a.ebx & b.ebx, a.ecx & b.ecx, a.edx & b.edx) }
    static func | (a: Self, b: Self) -> Self { Self(a.eax | b.eax, a.ebx | b.ebx, a.ecx | b.ecx, a.edx | b.edx) }
    static prefix func ~ (a: Self) -> Self { Self(~a.eax, ~a.ebx, ~a.ecx, ~a.edx) }
}

/// One of the 64 CPUID leaves that the module virtualises, in its published order.
struct CPUIDLookup: Sendable {
    var leaf: UInt32
    /// `CPUIDConfiguration.none` when the leaf has no sub-leaves.
    var subleaf: UInt32
    /// The TD gets #VE for the leaf; its value is not a field.
    var isFaulting: Bool
    /// Bits that a TD sees as 0, or that depend on its state.
    var fixed0: CPUIDWords
    var fixed1: CPUIDWords
    /// What the processor's own value must be, under a mask, for SYS.INIT.
    var verifyMask: CPUIDWords
    var verifyValue: CPUIDWords

    /// The place of a leaf; a leaf without sub-leaves fits any sub-leaf.
    static func place(_ leaf: UInt32, _ subleaf: UInt32) -> Int? {
        all.firstIndex { $0.leaf == leaf && ($0.subleaf == CPUIDConfiguration.none || $0.subleaf == subleaf) }
    }

    /// The configurable leaf at each place of `all`.
    static let configurations: [Int?] = all.map { entry in
        CPUIDConfiguration.all.firstIndex { $0.leaf == entry.leaf && $0.subleaf == entry.subleaf }
    }

    /// Rows of text: leaf and sub-leaf (hexadecimal), "f" for faulting, then EAX, EBX, ECX, EDX of the masks fixed-0,
    /// fixed-1, verify mask and verify value; "-" is four zeros.
    static let all: [CPUIDLookup] = published.split(separator: "\n").map { line in
        let words = line.split(separator: " ")
        let name = words[0].split(separator: ".").map { UInt32($0, radix: 16) ?? 0 }
        func quad(_ place: Int) -> CPUIDWords {
            let values = words[place].split(separator: ",").compactMap { UInt32($0, radix: 16) }
            return values.count == 4 ? CPUIDWords(values[0], values[1], values[2], values[3]) : .zero
        }
        return CPUIDLookup(
            leaf: name[0], subleaf: name.count > 1 ? name[1] : CPUIDConfiguration.none, isFaulting: words[1] == "f",
            fixed0: quad(2), fixed1: quad(3), verifyMask: quad(4), verifyValue: quad(5))
    }

    private static let published = """
        1 - f000c000,ff0000ff,8010060,40120400 0,0,80000000,200 0,ff00,47faa217,1fa9fbff 0,800,47faa217,1fa9fbff
        4.0 - 3c00,0,0,4 - 0,fff,0,0 0,3f,0,0
        4.1 - 3c00,0,0,4 - 0,fff,0,0 0,3f,0,0
        4.2 - 3c00,0,0,4 - 0,fff,0,0 0,3f,0,0
        4.3 - 3c00,0,0,fffffff8 - e0,fff,0,1 60,3f,0,0
        7.0 - 0,404006,643e8010,2298c3 - ffffffff,219424c3,99000000,fc082600 2,219424c3,99000000,fc080400
        7.1 - ffffe2cf,ffffffff,ffffffff,ffffffff - - -
        a - 0,0,0,ffff6000 - ff00,0,ffffff80,8000 800,0,0,8000
        1c - - - - -
        80000008 - ffff0000,fffffdff,ffffffff,ffffffff - ff,200,0,0 34,200,0,0
        0 - ffffffdc,0,0,0 23,0,0,0 0,ffffffff,ffffffff,ffffffff 0,756e6547,6c65746e,49656e69
        3 - ffffffff,ffffffff,ffffffff,ffffffff - - -
        4.4 - ffffffff,ffffffff,ffffffff,ffffffff - 1f,0,0,0 -
        6 f - - 800000,0,0,0 -
        7.2 - ffffffff,ffffffff,ffffffff,ffffffc0 - 0,0,0,17 0,0,0,17
        8 - ffffffff,ffffffff,ffffffff,ffffffff - - -
        d.0 - fff9fd18,ffffffff,0,ffffffff - 3,0,0,0 3,0,0,0
        d.1 - ffffffe0,ffffffff,ffff26ff,ffffffff - f,0,1800,0 f,0,1800,0
        d.2 - 0,0,0,ffffffff - - -
        d.3 - 0,0,0,ffffffff - - -
        d.4 - 0,0,0,ffffffff - - -
        d.5 - 0,0,0,ffffffff - - -
        d.6 - 0,0,0,ffffffff - - -
        d.7 - 0,0,0,ffffffff - - -
        d.8 - 0,0,0,ffffffff - - -
        d.9 - 0,0,0,ffffffff - - -
        d.a - 0,0,0,ffffffff - - -
        d.b - 0,0,0,ffffffff - - -
        d.c - 0,0,0,ffffffff - - -
        d.d - 0,0,0,ffffffff - - -
        d.e - 0,0,0,ffffffff - - -
        d.f - 0,0,0,ffffffff - - -
        d.10 - 0,0,0,ffffffff - - -
        d.11 - 0,0,0,ffffffff - - -
        d.12 - 0,0,0,ffffffff - - -
        e - ffffffff,ffffffff,ffffffff,ffffffff - - -
        11 - ffffffff,ffffffff,ffffffff,ffffffff - - -
        12 - ffffffff,ffffffff,ffffffff,ffffffff - - -
        13 - ffffffff,ffffffff,ffffffff,ffffffff - - -
        14.0 - 0,fffffe00,7ffffff0,ffffffff - ffffffff,0,0,0 1,0,0,0
        14.1 - fff8,0,ffffffff,ffffffff - - -
        15 - fffffffe,0,fe8287bf,ffffffff 1,0,17d7840,0 - -
        19 - fffffff8,ffffffeb,fffffffd,ffffffff - - -
        1d.0 - - - - -
        1d.1 - - - - -
        1e - - - - -
        1f.0 f - - - -
        1f.1 f - - - -
        1f.2 f - - - -
        1f.3 f - - - -
        1f.4 f - - - -
        1f.5 f - - 0,0,ff00,0 -
        20 - ffffffff,ffffffff,ffffffff,ffffffff - - -
        21.0 - ffffffff,9a8b91b6,dfdfdfdf,a7bbab93 0,65746e49,20202020,5844546c - -
        80000000 - 7ffffff7,ffffffff,ffffffff,ffffffff 80000008,0,0,0 - -
        80000001 - ffffffff,ffffffff,fffffede,d3efffff - 0,0,121,2c100800 0,0,121,2c100800
        80000006 f - - 0,0,ff,0 0,0,40,0
        80000007 - ffffffff,ffffffff,ffffffff,fffffeff - 0,0,0,100 0,0,0,100
        22 - ffffffff,ffffffff,ffffffff,ffffffff - - -
        23.0 - fffffff0,0,ffffffff,ffffffff - - -
        23.1 - 0,0,ffffffff,ffffffff - ffffff00,fffffff0,0,0 -
        23.2 - ffffffff,ffffffff,ffffffff,ffffffff - - -
        23.3 - 0,ffffffff,ffffffff,ffffffff - - -
        5 - ffff0000,ffff0000,fffffffc,0 - - -
        """
}
