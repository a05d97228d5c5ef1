public import MemoryUnits
internal import Synchronization
public import TDXModule

/// The pages that the module owns, with a checksum of each, so that a host that writes to one is found out when it gets the
/// page back. On hardware such a write is a machine check for whoever reads the page next.
///
/// A page of the module's own structures (TDR, TDCS, TDVPS, Secure EPT) holds a seal, for the software module keeps them
/// itself; a TD's memory holds what the TD has there. Reads by the host cannot be seen: nothing is encrypted.
public final class PageLedger: Sendable {
    private struct Page: Sendable {
        var type: PageType
        var owner: HostPhysicalAddress
        var checksum: UInt64
    }

    private struct State: Sendable {
        var pages: [UInt64: Page] = [:]
        var highest = 0
        var violations: [OwnershipViolation] = []
        var violationCount: UInt64 = 0

        mutating func note(_ address: UInt64, _ page: Page) {
            violationCount += 1
            guard violations.count < PageLedger.keptViolations else { return }
            violations.append(
                OwnershipViolation(page: HostPhysicalAddress(address), type: page.type, owner: page.owner))
        }
    }

    private let state = Mutex(State())
    /// Violations that are kept in full; later ones are only counted.
    static let keptViolations = 100

    init() {}

    /// Pages owned now, and the most at any time.
    public var counts: (now: Int, highest: Int) { state.withLock { ($0.pages.count, $0.highest) } }

    /// Pages owned now, by type.
    public var countsByType: [PageType: Int] {
        state.withLock { state in state.pages.values.reduce(into: [:]) { $0[$1.type, default: 0] += 1 } }
    }

    /// The first violations, and how many there were.
    public var violations: (kept: [OwnershipViolation], count: UInt64) {
        state.withLock { ($0.violations, $0.violationCount) }
    }

    /// The module took a page.
    func taken(_ page: HostPhysicalAddress, type: PageType, owner: HostPhysicalAddress, _ memory: MachineMemory) {
        guard let start = memory.pointer(page, Int(pageSize)) else { return }
        if type != .regular { Self.seal(start, page) }
        let checksum = Self.checksum(start)
        state.withLock { state in
            state.pages[page.rawValue] = Page(type: type, owner: owner, checksum: checksum)
            state.highest = max(state.highest, state.pages.count)
        }
    }

    /// The module or a guest wrote into the page of an address.
    func changed(_ address: HostPhysicalAddress, _ memory: MachineMemory) {
        let page = address.rawValue & ~(pageSize - 1)
        // Inside the lock: of two writers, the one that stores last has seen what both wrote.
        state.withLock { state in
            guard state.pages[page] != nil, let start = memory.pointer(HostPhysicalAddress(page), Int(pageSize)) else {
                return
            }
            state.pages[page]?.checksum = Self.checksum(start)
        }
    }

    /// The module gave a page back: what it holds must be what was left there.
    func released(_ page: HostPhysicalAddress, _ memory: MachineMemory) {
        guard let known = state.withLock({ $0.pages.removeValue(forKey: page.rawValue) }),
            let start = memory.pointer(page, Int(pageSize)), Self.checksum(start) != known.checksum
        else { return }
        state.withLock { $0.note(page.rawValue, known) }
    }

    /// Compares the pages that the module still owns, at the end: a host may have used one that it took to be its own.
    func checkAll(_ memory: MachineMemory) {
        state.withLock { state in
            for (address, page) in state.pages.sorted(by: { $0.key < $1.key }) {
                guard let start = memory.pointer(HostPhysicalAddress(address), Int(pageSize)),
                    Self.checksum(start) != page.checksum
                else { continue }
                state.note(address, page)
            }
        }
    }

    /// Words that no host writes by chance, another row of them for each page.
    private static func seal(_ start: UnsafeMutableRawPointer, _ page: HostPhysicalAddress) {
        let words = start.assumingMemoryBound(to: UInt64.self)
        var word = page.rawValue ^ 0x5EA1_0F7D_C0DE_0001
        for index in 0..<Int(pageSize) / 8 {
            word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            words[index] = word
        }
    }

    private static func checksum(_ start: UnsafeMutableRawPointer) -> UInt64 {
        let words = UnsafeBufferPointer(
            start: start.assumingMemoryBound(to: UInt64.self), count: Int(pageSize) / 8)
        var sum: UInt64 = 0
        for word in words { sum = (sum << 7 | sum >> 57) &+ word }
        return sum
    }
}

/// A page that another than the module and the guest wrote to while the module owned it.
public struct OwnershipViolation: Hashable, Sendable, CustomStringConvertible {
    public var page: HostPhysicalAddress
    public var type: PageType
    /// The TDR page of the TD that it belonged to.
    public var owner: HostPhysicalAddress

    public var description: String {
        "page 0x\(String(page.rawValue, radix: 16)) (\(type)) of the TD with TDR 0x\(String(owner.rawValue, radix: 16)) "
            + "was written to by the host while the module owned it"
    }
}

/// What a SEAMCALL does to the ownership of pages.
struct OwnershipStep {
    /// The page that the module takes where the call succeeds.
    var taken: HostPhysicalAddress?
    /// The page that it gives back.
    var released: HostPhysicalAddress?

    /// - Parameter before: the registers at the call; the walk is made before it is dispatched.
    init(_ leaf: SeamcallLeaf, _ before: Registers, _ module: TDXModule) {
        let pageMask: UInt64 = 0x000F_FFFF_FFFF_F000
        func page(_ operand: UInt64) -> HostPhysicalAddress { HostPhysicalAddress(operand & pageMask) }
        func mapped() -> HostPhysicalAddress? {
            module.entry(
                GuestPhysicalAddress(before.rcx & pageMask), level: Int(before.rcx & 7), of: page(before.rdx))?.address
        }
        switch leaf {
        case .mngCreate, .mngAddcx, .vpCreate, .vpAddcx: taken = page(before.rcx)
        case .memSeptAdd, .memPageAdd, .memPageAug: taken = page(before.r8)
        case .phymemPageReclaim: released = page(before.rcx)
        case .memPageRemove, .memSeptRemove: released = mapped()
        case .memPageRelocate:
            taken = page(before.r8)
            released = mapped()
        default: break
        }
    }

    func apply(_ module: TDXModule, _ memory: MachineMemory) {
        if let released { memory.ledger.released(released, memory) }
        if let taken, let metadata = module.metadata(of: taken), metadata.type != .free {
            memory.ledger.taken(taken, type: metadata.type, owner: metadata.owner, memory)
        }
    }
}
