/// The general-purpose registers that SEAMCALL and TDCALL carry. A leaf changes only those that it defines as outputs.
///
/// On the way in RAX holds the leaf in bits 15:0 and its version in bits 23:16; on the way out it holds the status
/// (reference §0.1).
@frozen
public struct Registers: Hashable, Sendable {
    public var rax: UInt64
    public var rcx: UInt64
    public var rdx: UInt64
    public var rbx: UInt64
    public var rbp: UInt64
    public var rsi: UInt64
    public var rdi: UInt64
    public var r8: UInt64
    public var r9: UInt64
    public var r10: UInt64
    public var r11: UInt64
    public var r12: UInt64
    public var r13: UInt64
    public var r14: UInt64
    public var r15: UInt64

    /// All registers, by default zero.
    @inlinable
    public init(
        rax: UInt64 = 0, rcx: UInt64 = 0, rdx: UInt64 = 0, rbx: UInt64 = 0, rbp: UInt64 = 0, rsi: UInt64 = 0,
        rdi: UInt64 = 0, r8: UInt64 = 0, r9: UInt64 = 0, r10: UInt64 = 0, r11: UInt64 = 0, r12: UInt64 = 0,
        r13: UInt64 = 0, r14: UInt64 = 0, r15: UInt64 = 0
    ) {
        self.rax = rax
        self.rcx = rcx
        self.rdx = rdx
        self.rbx = rbx
        self.rbp = rbp
        self.rsi = rsi
        self.rdi = rdi
        self.r8 = r8
        self.r9 = r9
        self.r10 = r10
        self.r11 = r11
        self.r12 = r12
        self.r13 = r13
        self.r14 = r14
        self.r15 = r15
    }

    /// The operands of a host's call.
    @inlinable
    public init(
        _ leaf: SeamcallLeaf, version: UInt8 = 0, rcx: UInt64 = 0, rdx: UInt64 = 0, r8: UInt64 = 0, r9: UInt64 = 0,
        r10: UInt64 = 0, r11: UInt64 = 0, r12: UInt64 = 0, r13: UInt64 = 0
    ) {
        self.init(
            rax: UInt64(leaf.rawValue) | UInt64(version) << 16, rcx: rcx, rdx: rdx, r8: r8, r9: r9, r10: r10,
            r11: r11, r12: r12, r13: r13)
    }

    /// The operands of a guest's call.
    @inlinable
    public init(
        _ leaf: TDCallLeaf, version: UInt8 = 0, rcx: UInt64 = 0, rdx: UInt64 = 0, r8: UInt64 = 0, r9: UInt64 = 0
    ) {
        self.init(rax: UInt64(leaf.rawValue) | UInt64(version) << 16, rcx: rcx, rdx: rdx, r8: r8, r9: r9)
    }
}
