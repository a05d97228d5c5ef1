internal import Synchronization
internal import TDXModule

/// One processor's page for SEAMCALLs. Layout, in 64-bit words: state (0 idle, 1 asked, 2 answered, 3 ordered), "an
/// interrupt is pending on the caller's processor", then the registers: RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8 … R15. The text
/// of an order for the server is at byte 1024, and ends with a 0.
///
/// The caller writes the registers, stores "asked" with release order, rings and spins on the state with interrupts off; the
/// server answers in reverse. So a page belongs to one side at a time, but for the interrupt word, which the caller sets
/// while a VP.ENTER is under way.
struct Mailbox: @unchecked Sendable {
    // Sound: the pages stay mapped for the life of the server, and the state orders all accesses.
    private let words: UnsafeMutablePointer<UInt64>

    enum State: UInt64 {
        case idle = 0
        case asked = 1
        case answered = 2
        case ordered = 3
    }

    init(_ page: UnsafeMutableRawPointer) { words = page.assumingMemoryBound(to: UInt64.self) }

    private static let firstRegister = 2
    private static let orderPlace = 1024
    private static let orderLength = 256

    private func atomic(_ index: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        UnsafeMutableRawPointer(words + index).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// What the caller wants; nil where it waits for nothing, or has written an unknown state.
    var state: State? { State(rawValue: atomic(0).pointee.load(ordering: .acquiring)) }
    var interruptIsPending: Bool { atomic(1).pointee.load(ordering: .relaxed) != 0 }

    var registers: Registers {
        let w = words + Self.firstRegister
        return Registers(
            rax: w[0], rcx: w[1], rdx: w[2], rbx: w[3], rbp: w[4], rsi: w[5], rdi: w[6], r8: w[7], r9: w[8],
            r10: w[9], r11: w[10], r12: w[11], r13: w[12], r14: w[13], r15: w[14])
    }

    /// The text of an order.
    var order: String {
        let bytes = UnsafeRawBufferPointer(
            start: UnsafeRawPointer(words) + Self.orderPlace, count: Self.orderLength)
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    func answerOrder(_ isUnderstood: Bool) {
        words[Self.firstRegister] = isUnderstood ? 0 : 1
        atomic(0).pointee.store(State.answered.rawValue, ordering: .releasing)
    }

    func answer(_ r: Registers) {
        let w = words + Self.firstRegister
        w[0] = r.rax
        w[1] = r.rcx
        w[2] = r.rdx
        w[3] = r.rbx
        w[4] = r.rbp
        w[5] = r.rsi
        w[6] = r.rdi
        w[7] = r.r8
        w[8] = r.r9
        w[9] = r.r10
        w[10] = r.r11
        w[11] = r.r12
        w[12] = r.r13
        w[13] = r.r14
        w[14] = r.r15
        atomic(0).pointee.store(State.answered.rawValue, ordering: .releasing)
    }
}
