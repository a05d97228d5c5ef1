internal import Glibc
public import MemoryUnits
public import TDXModule
public import TDXStatusCodes

/// One vCPU as its guest sees it. Only the guest's program uses it, on its own thread.
public final class GuestProcessor: @unchecked Sendable {
    /// The vCPU's number, which is its x2APIC id.
    public let id: UInt32
    /// What INIT_VCPU put into RCX and R8.
    public let initialRCX: UInt64
    /// The bit of a guest-physical address that makes it shared: bit 47 or 51.
    public let sharedBit: UInt64
    private let mode: GuestMode
    private let thread: GuestThread
    /// What this CPU remembers of its guest's page tables.
    let tlb: GuestTLB

    init(id: UInt32, initialRCX: UInt64, sharedBit: UInt64, mode: GuestMode, thread: GuestThread) {
        self.id = id
        self.initialRCX = initialRCX
        self.sharedBit = sharedBit
        self.mode = mode
        self.thread = thread
        tlb = GuestTLB(mode)
    }

    // MARK: TDCALLs

    /// One TDCALL. VMCALL returns with the host's answers in the registers that it may change.
    @discardableResult
    public func tdcall(_ registers: inout Registers) throws(GuestFault) -> TDXStatus {
        let call = registers
        var isAnswered = false
        while true {
            var now = call
            let outcome: TDCallOutcome? = try inGuest { module, tdvpr in
                // The host answered the VMCALL that this call made; entering completed it.
                if isAnswered {
                    if let answer = module.takeAnswer(vcpu: tdvpr) { now = answer }
                    return .done(nil)
                }
                let outcome = module.tdcall(&now, vcpu: tdvpr)
                if case .exit(let exit) = outcome { return .exit(exit) }
                return .done(outcome)
            } afterExit: { exit in
                if case .vmcall = exit { isAnswered = true }
            }
            guard let outcome else {
                registers = now
                return .success
            }
            if case .completed(let status) = outcome {
                registers = now
                return status
            }
        }
    }

    /// TDG.MEM.PAGE.ACCEPT of the page or 2 MiB block at an address.
    public func accept(_ address: GuestPhysicalAddress, level: UInt64 = 0) throws(GuestFault) -> TDXStatus {
        var registers = Registers(.memPageAccept, rcx: address.rawValue | level)
        return try tdcall(&registers)
    }

    /// TDG.VP.VMCALL<MapGPA>: asks the host to make a range shared or private.
    /// - Returns: the GHCI status (0 success, 1 retry, bit 63 set: refused), and R11, the first address that is not done,
    ///   with the shared bit of the request.
    public func mapGPA(_ range: GuestPhysicalRange, toShared: Bool) throws(GuestFault) -> (status: UInt64, next: UInt64)
    {
        let start = range.start.rawValue | (toShared ? sharedBit : 0)
        let result = try vmcall(0x10001, r12: start, r13: range.size.rawValue)
        return (result.r10, result.r11)
    }

    /// TDG.VP.VMCALL of a GHCI sub-function that passes R10 to R15.
    public func vmcall(
        _ function: UInt64, r12: UInt64 = 0, r13: UInt64 = 0, r14: UInt64 = 0, r15: UInt64 = 0
    ) throws(GuestFault) -> Registers {
        var registers = Registers(.vpVmcall, rcx: 0xFC00)
        registers.r11 = function
        registers.r12 = r12
        registers.r13 = r13
        registers.r14 = r14
        registers.r15 = r15
        try tdcall(&registers)
        return registers
    }

    // MARK: Memory

    /// Reads private memory, by no page tables; within one 4 KiB page a read is atomic towards removal.
    public func read(_ address: GuestPhysicalAddress, count: Int) throws(GuestFault) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        try eachPage(address, count) { start, part throws(GuestFault) in
            try privateAccess(start, part.count, write: false) { page in
                bytes.withUnsafeMutableBytes { bytes in
                    UnsafeMutableRawBufferPointer(rebasing: bytes[part]).copyMemory(from: UnsafeRawBufferPointer(page))
                }
            }
        }
        return bytes
    }

    /// Writes private memory.
    public func write(_ address: GuestPhysicalAddress, _ bytes: [UInt8]) throws(GuestFault) {
        try eachPage(address, bytes.count) { start, part throws(GuestFault) in
            try privateAccess(start, part.count, write: true) { page in
                bytes.withUnsafeBytes { page.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[part])) }
            }
        }
    }

    /// Reads through the shared alias of an address.
    public func readShared(_ address: GuestPhysicalAddress, count: Int) throws(GuestFault) -> [UInt8] {
        var bytes: [UInt8] = []
        try eachPage(address, count) { start, part throws(GuestFault) in
            bytes += try shared(SharedAccess(address: start, count: part.count, writing: nil))
        }
        return bytes
    }

    /// Writes through the shared alias of an address.
    public func writeShared(_ address: GuestPhysicalAddress, _ bytes: [UInt8]) throws(GuestFault) {
        try eachPage(address, bytes.count) { start, part throws(GuestFault) in
            _ = try shared(SharedAccess(address: start, count: part.count, writing: Array(bytes[part])))
        }
    }

    /// Gives the host a chance to interrupt; for programs that wait for another vCPU.
    public func pause() throws(GuestFault) {
        try inGuest { _, _ in .done(()) }
        sched_yield()
    }

    private func privateAccess(
        _ address: GuestPhysicalAddress, _ count: Int, write: Bool, _ body: (UnsafeMutableRawBufferPointer) -> Void
    ) throws(GuestFault) {
        let exception: Bool = try inGuest { module, tdvpr in
            switch module.access(address, write: write, vcpu: tdvpr) {
            case .memory(let place, _):
                mode.frames.withPage(of: place, count: count, writes: write, body)
                return .done(false)
            case .virtualizationException: return .done(true)
            case .shared: preconditionFailure("\(address) carries the shared bit: that is what readShared is for")
            case .exit(let exit): return .exit(exit)
            case .notInside: return .again
            }
        }
        if exception { throw .virtualizationException(address) }
    }

    private func shared(_ access: SharedAccess) throws(GuestFault) -> [UInt8] {
        while true {
            try inGuest { module, tdvpr in .done(()) }
            if let bytes = try sharedOnce(access) { return bytes }
        }
    }

    /// Lets the host perform the access. Nil when it did not: the instruction starts again.
    private func sharedOnce(_ access: SharedAccess) throws(GuestFault) -> [UInt8]? {
        mode.leaveIfInside(.externalInterrupt)
        thread.yield(.sharedAccess(access))
        if thread.isStopping { throw .stopped }
        return mode.sharedResult
    }

    // MARK: Memory by the guest's page tables

    /// A load or a store inside one page, by this CPU's TLB or else the page tables. It is translated anew whenever it starts
    /// again, as an instruction is.
    /// - Parameter bytes: what is stored; nil for a load.
    /// - Returns: what was loaded; nil after a page fault.
    func access(
        _ address: GuestVirtualAddress, count: Int, writing bytes: [UInt8]?, by tables: GuestPageTables
    ) throws(GuestFault) -> [UInt8]? {
        enum Attempt {
            case bytes([UInt8])
            case virtualizationException(GuestPhysicalAddress)
            case shared(GuestPhysicalAddress)
            case pageFault
        }
        while true {
            let attempt: Attempt = try inGuest { module, tdvpr in
                guard let place = tlb.translate(address, tables) else { return .done(.pageFault) }
                if place.isShared { return .done(.shared(place.address)) }
                switch module.access(place.address, write: bytes != nil, vcpu: tdvpr) {
                case .memory(let host, _):
                    var result = [UInt8](repeating: 0, count: bytes == nil ? count : 0)
                    mode.frames.withPage(of: host, count: count, writes: bytes != nil) { page in
                        if let bytes {
                            page.copyBytes(from: bytes)
                        } else {
                            result.withUnsafeMutableBytes { $0.copyBytes(from: page) }
                        }
                    }
                    return .done(.bytes(result))
                case .virtualizationException: return .done(.virtualizationException(place.address))
                case .shared: preconditionFailure("a private address carries no shared bit")
                case .exit(let exit): return .exit(exit)
                case .notInside: return .again
                }
            }
            switch attempt {
            case .bytes(let bytes): return bytes
            case .virtualizationException(let address): throw .virtualizationException(address)
            case .pageFault: return nil
            case .shared(let place):
                var access = SharedAccess(address: place, count: count, writing: bytes)
                // The host performs the access some time later: a flush in between must not find it still on its way.
                access.isCurrent = { [self] in
                    tlb.translate(address, tables).map { $0 == (place, true) } ?? false
                }
                if let result = try sharedOnce(access) { return result }
            }
        }
    }

    /// A step of the guest without a call of the module; like any other it may be interrupted before.
    func step(_ body: () -> Void) throws(GuestFault) {
        try inGuest { _, _ in
            body()
            return .done(())
        }
    }

    // MARK: Steps

    private enum Step<Result> {
        case done(Result)
        case exit(TDExit)
        /// The vCPU turned out not to be inside: enter and try again.
        case again
    }

    /// One step of the guest. It happens inside the guest, with the vCPU's guest lock held, so that who forces vCPUs out
    /// waits for it; an exit goes to the kernel, after which the step is repeated.
    private func inGuest<Result>(
        _ body: (TDXModule, HostPhysicalAddress) -> Step<Result>, afterExit: (TDExit) -> Void = { _ in }
    ) throws(GuestFault) -> Result {
        while true {
            if thread.isStopping { throw .stopped }
            let (step, tdvpr): (Step<Result>?, HostPhysicalAddress) = mode.lock.withLock {
                let tdvpr = mode.tdvpr!
                guard mode.isInside else { return (nil, tdvpr) }
                if mode.wantsExit {
                    mode.leave(.externalInterrupt)
                    return (nil, tdvpr)
                }
                let step = body(mode.module, tdvpr)
                if case .exit(let exit) = step { mode.leave(exit) }
                return (step, tdvpr)
            }
            _ = tdvpr
            switch step {
            case .done(let result): return result
            case .exit(let exit):
                thread.yield(.exit(exit))
                afterExit(exit)
            case .again, nil: thread.yield(.interrupted)
            }
        }
    }
}
