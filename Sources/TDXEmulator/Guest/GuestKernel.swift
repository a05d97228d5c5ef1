internal import KVM
public import MemoryUnits
internal import TDXStatusCodes
public import TransitionModel

/// The memory side of a confidential guest's kernel on one CPU: it accepts pages, eagerly or when they are first touched,
/// reads and writes through page tables, and converts ranges by a transition protocol.
public struct GuestKernel: Sendable {
    /// When private pages that no conversion made are accepted.
    public enum Acceptance: Hashable, Sendable {
        /// Before they are used, by `accept(_:)` alone: a touch of another page is a fault.
        case eager
        /// When a touch raises #VE.
        case lazy
    }

    public let processor: GuestProcessor
    public let acceptance: Acceptance
    /// The page tables, of which the kernels of a TD's other CPUs use the same.
    public let tables: GuestPageTables
    /// The order of steps by which this kernel converts.
    public let transition: TransitionProtocol

    public init(
        _ processor: GuestProcessor, acceptance: Acceptance = .lazy, tables: GuestPageTables = GuestPageTables(),
        transition: TransitionProtocol = .presentClearingMerged
    ) {
        self.processor = processor
        self.acceptance = acceptance
        self.tables = tables
        self.transition = transition
        tables.attach(processor.tlb, ofCPU: processor.id)
    }

    // MARK: Acceptance

    /// Accepts every page of a range: 2 MiB at a time where the range has an aligned block, 4 KiB where the host mapped it
    /// that way. Pages that were accepted before are left alone.
    /// - Returns: false when the module refused a page.
    public func accept(_ range: GuestPhysicalRange) throws(GuestFault) -> Bool {
        let block = UInt64(2 << 20)
        var next = range.start
        while next < range.end {
            if next.rawValue % block == 0, range.end.rawValue - next.rawValue >= block {
                let status = try processor.accept(next, level: 1)
                if status.isSuccess || status.base == .pageAlreadyAccepted {
                    next = next + ByteCount(block)
                    continue
                }
                guard status.base == .pageSizeMismatch else { return false }
            }
            let status = try processor.accept(next)
            guard status.isSuccess || status.base == .pageAlreadyAccepted else { return false }
            next = next + ByteCount(pageSize)
        }
        return true
    }

    // MARK: Loads and stores

    /// Reads memory, private or shared by the page tables.
    /// - Throws: `GuestFault.pageFault` at the first page that is not present; `.virtualizationException` at a page that was
    ///   not accepted, when acceptance is eager.
    public func read(_ address: GuestVirtualAddress, count: Int) throws(GuestFault) -> [UInt8] {
        try load(address, count: count) { address throws(GuestFault) in throw .pageFault(address) }
    }

    /// Reads as a kernel does that loads whole words and may so run over the end of what it knows: what lies on a page
    /// that is not present reads as zeros, by the ordinary fix-up of such a load.
    public func readPadded(_ address: GuestVirtualAddress, count: Int) throws(GuestFault) -> [UInt8] {
        try load(address, count: count) { _ in }
    }

    /// Writes memory, private or shared by the page tables; errors as those of `read`, with the pages before written.
    public func write(_ address: GuestVirtualAddress, _ bytes: [UInt8]) throws(GuestFault) {
        try eachPage(address, bytes.count) { start, part throws(GuestFault) in
            if try access(start, part.count, writing: Array(bytes[part])) == nil { throw .pageFault(start) }
        }
    }

    /// Reads through the linear map.
    public func read(_ address: GuestPhysicalAddress, count: Int) throws(GuestFault) -> [UInt8] {
        try read(tables.linear(address), count: count)
    }

    /// Writes through the linear map.
    public func write(_ address: GuestPhysicalAddress, _ bytes: [UInt8]) throws(GuestFault) {
        try write(tables.linear(address), bytes)
    }

    private func load(
        _ address: GuestVirtualAddress, count: Int, notPresent: (GuestVirtualAddress) throws(GuestFault) -> Void
    ) throws(GuestFault) -> [UInt8] {
        var bytes: [UInt8] = []
        try eachPage(address, count) { start, part throws(GuestFault) in
            if let loaded = try access(start, part.count, writing: nil) {
                bytes += loaded
            } else {
                try notPresent(start)
                bytes += [UInt8](repeating: 0, count: part.count)
            }
        }
        return bytes
    }

    /// An access inside one page; a #VE of a page that may be accepted lazily is settled. Nil after a page fault.
    private func access(
        _ address: GuestVirtualAddress, _ count: Int, writing bytes: [UInt8]?
    ) throws(GuestFault) -> [UInt8]? {
        while true {
            do throws(GuestFault) {
                return try processor.access(address, count: count, writing: bytes, by: tables)
            } catch { try settle(error) }
        }
    }

    /// Accepts the page whose #VE was raised, or passes the fault on.
    private func settle(_ fault: GuestFault) throws(GuestFault) {
        guard acceptance == .lazy, case .virtualizationException(let address) = fault else { throw fault }
        let page = GuestPhysicalAddress(address.rawValue & ~(pageSize - 1))
        let status = try processor.accept(page)
        guard status.isSuccess || status.base == .pageAlreadyAccepted else { throw fault }
    }

    /// MapGPA, again from where it stopped as long as the host answers "retry"; the GHCI status at the end.
    func ask(
        _ range: GuestPhysicalRange, toShared: Bool, count: () -> Void
    ) throws(GuestFault) -> UInt64 {
        var rest = range
        while true {
            let answer = try processor.mapGPA(rest, toShared: toShared)
            count()
            guard answer.status == TDVMCallStatus.retry.rawValue else { return answer.status }
            let next = GuestPhysicalAddress(answer.next & ~processor.sharedBit)
            // A host that sends the guest elsewhere is not to be followed.
            guard rest.contains(next) else { return TDVMCallStatus.invalidOperand.rawValue }
            rest = GuestPhysicalRange(start: next, size: range.end - next)
        }
    }
}
