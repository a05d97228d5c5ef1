public import KVM
internal import MemoryUnits
internal import SystemPackage

/// What a vCPU's thread does after an exit.
public enum ExitAnswer: Hashable, Sendable {
    /// The exit is dealt with: run the vCPU again.
    case reenter
    /// The exit has nothing to do with memory's sides.
    case notMine
    /// The guest cannot go on; why.
    case fatal(String)
}

/// Turns one vCPU's exits about memory into conversions. One for each vCPU, used by its thread alone.
public struct GuestExits: ~Copyable {
    /// KVM_HC_MAP_GPA_RANGE
    static let mapGPARange: UInt64 = 12
    /// Bit 4 of its attributes: make the range private.
    static let privateBit: UInt64 = 1 << 4
    /// How often one page may fault in a row although it is on the side that was asked for. Another vCPU may be quicker
    /// once or twice; a guest_memfd that is gone faults for ever.
    static let futileFaults = 64

    private let domain: TrustDomain
    private var lastFault: (address: GuestPhysicalAddress, isPrivate: Bool, count: Int)?

    public init(_ domain: TrustDomain) { self.domain = domain }

    /// Deals with an exit of `vcpu`; blocks while a conversion runs.
    public mutating func handle(_ exit: VCPUExit, of vcpu: any KVMVirtualCPU) -> ExitAnswer {
        switch exit {
        case .hypercall(Self.mapGPARange, let arguments) where arguments.count >= 3:
            vcpu.completeHypercall(UInt64(mapRange(arguments).rawValue))
            return .reenter
        case .memoryFault(let isPrivate, let address, _):
            return fault(at: address, isPrivate: isPrivate)
        case .tdx(let call):
            vcpu.completeTDX(Self.answer(to: call))
            return .reenter
        default:
            return .notMine
        }
    }

    /// The answers to a guest's calls for user space: no further calls; quotes and event notification, which tdxd
    /// has no service for, are refused as unsupported, as the kernel's own preset does.
    static func answer(to call: TDXExit) -> TDXAnswer { call.preset }

    /// The answers that KVM passes on: 0; EAGAIN, after which the guest asks again from this range's start, where what
    /// is done already costs nothing; EINVAL for what can never be.
    private func mapRange(_ arguments: [UInt64]) -> Errno {
        let (size, overflow) = arguments[1].multipliedReportingOverflow(by: pageSize)
        let start = GuestPhysicalAddress(arguments[0])
        guard !overflow, let range = GuestPhysicalRange(validating: start, size: ByteCount(size)) else {
            return .invalidArgument
        }
        do {
            _ = try domain.convertForGuest(range, to: arguments[2] & Self.privateBit != 0 ? .private : .shared)
            return Errno(rawValue: 0)
        } catch {
            return Self.answer(to: error)
        }
    }

    static func answer(to error: TrustDomainError) -> Errno {
        switch error {
        case .wrongState: .resourceTemporarilyUnavailable
        case .conversion(let incomplete):
            switch incomplete.reason {
            case .cancelled: .resourceTemporarilyUnavailable
            case .refused(let refusal):
                switch refusal.errno {
                case .interrupted, .resourceTemporarilyUnavailable, .noMemory, .resourceBusy:
                    .resourceTemporarilyUnavailable
                default: .invalidArgument
                }
            }
        default: .invalidArgument
        }
    }

    /// The guest touched a page on the side that it is not on: that is a request, too.
    private mutating func fault(at address: GuestPhysicalAddress, isPrivate: Bool) -> ExitAnswer {
        let page = GuestPhysicalRange(start: address.frame.address, size: ByteCount(pageSize))
        let count: Int
        if let lastFault, lastFault.address == page.start, lastFault.isPrivate == isPrivate {
            count = lastFault.count + 1
        } else {
            count = 1
        }
        lastFault = (page.start, isPrivate, count)
        guard count <= Self.futileFaults else {
            return .fatal("page \(page.start) faulted \(count) times as \(isPrivate ? "private" : "shared")")
        }
        do {
            let result = try domain.convertForGuest(page, to: isPrivate ? .private : .shared)
            if result.changed > .zero { lastFault = nil }
            return .reenter
        } catch {
            if Self.answer(to: error) == .resourceTemporarilyUnavailable { return .reenter }
            return .fatal("page \(page.start) faulted as \(isPrivate ? "private" : "shared"): \(error)")
        }
    }
}
