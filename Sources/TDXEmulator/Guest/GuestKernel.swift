public import MemoryUnits
internal import TDXStatusCodes

/// The memory side of a confidential guest's kernel, for programs that do not want to care: it accepts pages, eagerly or
/// when they are first touched, and converts ranges until the host has done all of them.
public struct GuestKernel: Sendable {
    /// When private pages are accepted.
    public enum Acceptance: Hashable, Sendable {
        /// Before they are used, by `accept(_:)` alone: a touch of another page is a fault.
        case eager
        /// When a touch raises #VE.
        case lazy
    }

    public let processor: GuestProcessor
    public let acceptance: Acceptance

    public init(_ processor: GuestProcessor, acceptance: Acceptance = .lazy) {
        self.processor = processor
        self.acceptance = acceptance
    }

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

    /// Reads private memory.
    public func read(_ address: GuestPhysicalAddress, count: Int) throws(GuestFault) -> [UInt8] {
        while true {
            do throws(GuestFault) { return try processor.read(address, count: count) } catch { try settle(error) }
        }
    }

    /// Writes private memory. A write that reaches over pages may be made again from its beginning.
    public func write(_ address: GuestPhysicalAddress, _ bytes: [UInt8]) throws(GuestFault) {
        while true {
            do throws(GuestFault) { return try processor.write(address, bytes) } catch { try settle(error) }
        }
    }

    /// Asks the host to convert a range, again from where it stopped as long as it says "retry"; a range that became
    /// private is accepted when acceptance is eager.
    /// - Returns: false when the host refused, or a page could not be accepted.
    public func convert(_ range: GuestPhysicalRange, toShared: Bool) throws(GuestFault) -> Bool {
        var rest = range
        while true {
            let answer = try processor.mapGPA(rest, toShared: toShared)
            if answer.status == GHCIStatus.success { break }
            guard answer.status == GHCIStatus.retry else { return false }
            let next = GuestPhysicalAddress(answer.next & ~processor.sharedBit)
            guard rest.contains(next) else { return false }
            rest = GuestPhysicalRange(start: next, size: range.end - next)
        }
        return toShared || acceptance == .lazy ? true : try accept(range)
    }

    /// Accepts the page whose #VE was raised, or passes the fault on.
    private func settle(_ fault: GuestFault) throws(GuestFault) {
        guard acceptance == .lazy, case .virtualizationException(let address) = fault else { throw fault }
        let page = GuestPhysicalAddress(address.rawValue & ~(pageSize - 1))
        let status = try processor.accept(page)
        guard status.isSuccess || status.base == .pageAlreadyAccepted else { throw fault }
    }
}
