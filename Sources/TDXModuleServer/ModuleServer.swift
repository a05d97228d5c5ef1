internal import LinuxSystem
public import MemoryUnits
internal import Synchronization
public import TDXModule
internal import TDXStatusCodes

/// What a server is to do.
public struct ServerOptions: Sendable {
    /// Files of the machine's memory, in the order of its NUMA nodes.
    public var memory: [String]
    /// Memory below the hole under 4 GiB, at most.
    public var lowMemory: ByteCount
    /// The FIFO that the machine's doorbell writes to.
    public var bell: String
    public var version: ModuleVersion
    public var guest: GuestScript
    /// Where the calls are recorded; the file must not exist. Nil for nowhere.
    public var trace: String?
    /// Conditions that calls meet from the first TDH.MNG.CREATE on: bring-up is left alone.
    public var faults: [PlannedFault]
    /// Odds in 1,000 that a call finds each of its locks held, from the first TDH.MNG.CREATE on.
    public var busyPermille: UInt64
    /// Of those odds.
    public var seed: UInt64

    public init(
        memory: [String], lowMemory: ByteCount, bell: String, version: ModuleVersion = .late,
        guest: GuestScript = .idle, trace: String? = nil, faults: [PlannedFault] = [], busyPermille: UInt64 = 0,
        seed: UInt64 = 1
    ) {
        self.memory = memory
        self.lowMemory = lowMemory
        self.bell = bell
        self.version = version
        self.guest = guest
        self.trace = trace
        self.faults = faults
        self.busyPermille = busyPermille
        self.seed = seed
    }
}

/// Serves the SEAMCALLs of a kernel in a QEMU machine beside this process: the machine's memory is mapped here, a page of it
/// for each processor carries registers to and fro, and a byte in a FIFO names the processor that asks.
///
/// As many threads as processors wait for bells, and whichever hears one serves it: calls of several processors are dispatched
/// at once, and find each other's locks taken as on hardware.
public final class ModuleServer: Sendable {
    let options: ServerOptions
    let memory: MachineMemory
    let counts = CallCounts()
    private let log: @Sendable (String) -> Void
    private let guests = Mutex<[UInt64: ScriptedGuest]>([:])
    /// Of vCPUs that are initialised from now on.
    private let script: Mutex<GuestScript>
    private let faultsWait: Atomic<Bool>
    private let trace: CallTrace?

    /// Maps the machine's memory, and makes the recording's file.
    /// - Parameter log: takes lines for people, from any thread.
    public init(_ options: ServerOptions, log: @escaping @Sendable (String) -> Void) throws(ServerError) {
        self.options = options
        self.log = log
        script = Mutex(options.guest)
        memory = try MachineMemory(files: options.memory, lowLimit: options.lowMemory)
        faultsWait = Atomic(options.busyPermille > 0 || !options.faults.isEmpty)
        do throws(LinuxError) {
            trace = try options.trace.map { path throws(LinuxError) in try CallTrace(creating: path) }
        } catch { throw ServerError("\(error)") }
    }

    /// Waits for the machine, loads the module when its kernel announces itself, and serves until the machine has ended.
    public func run() throws(ServerError) -> ServerReport {
        let bell: Bell
        let announcement: Announcement
        do throws(LinuxError) {
            bell = try Bell(opening: options.bell)
        } catch { throw ServerError("\(options.bell): \(error)") }
        guard let line = try bell.line() else {
            throw ServerError("the machine ended before its kernel asked for a TDX module")
        }
        log(line)
        announcement = try Announcement(parsing: line)
        let module = try load(announcement)
        let boxes = try mailboxes(announcement)
        do throws(LinuxError) {
            // Made, not yet begun: every thread waits for a bell.
            let threads = try (0..<announcement.processors).map { number throws(LinuxError) in
                try SystemThread(name: "seam-\(number)") { [self] in
                    while let rung = bell.next() {
                        switch boxes.indices.contains(rung) ? boxes[rung].state : nil {
                        case .asked: serve(boxes[rung], LogicalProcessorID(UInt32(rung)), module)
                        case .ordered: obey(boxes[rung], module)
                        default: log("a bell of processor \(rung), which asks for nothing")
                        }
                    }
                }
            }
            for thread in threads { thread.join() }
        } catch { throw ServerError("\(error)") }
        module.record(nil)
        memory.ledger.checkAll(memory)
        return ServerReport(self, module)
    }

    private func load(_ announcement: Announcement) throws(ServerError) -> TDXModule {
        // The first MiB is the firmware's, as on hardware.
        let convertible = memory.ranges.map { range in
            range.start.rawValue == 0
                ? HostPhysicalRange(
                    start: HostPhysicalAddress(1 << 20), size: range.size - ByteCount(min(1 << 20, range.size.rawValue))
                )
                : range
        }
        let platform = PlatformDescription(
            convertibleMemory: convertible, packages: 1, logicalProcessorsPerPackage: announcement.processors,
            mktmeKeys: announcement.mktmeKeys, tdxKeys: announcement.tdxKeys,
            keyIDBits: 52 - announcement.addressBits, version: options.version)
        let module: TDXModule
        do { module = try TDXModule(platform: platform, memory: memory) } catch {
            throw ServerError("the module does not load: \(error)")
        }
        if let trace {
            trace.write(TraceEvent.header(module, broughtUp: false))
            module.record { trace.write($0.json()) }
        }
        return module
    }

    private func mailboxes(_ announcement: Announcement) throws(ServerError) -> [Mailbox] {
        var boxes: [Mailbox] = []
        for number in 0..<announcement.processors {
            let page = announcement.mailboxes + ByteCount(UInt64(number) * pageSize)
            guard let start = memory.pointer(page, Int(pageSize)) else {
                throw ServerError(
                    "the mailbox of processor \(number), 0x\(hex(page.rawValue)), is outside the machine's memory of "
                        + "\(memory.size)")
            }
            boxes.append(Mailbox(start))
        }
        return boxes
    }

    // MARK: One call

    private func serve(_ box: Mailbox, _ processor: LogicalProcessorID, _ module: TDXModule) {
        let begin = MonotonicInstant.now
        let before = box.registers
        var registers = before
        let number = UInt16(truncatingIfNeeded: before.rax)
        let leaf = SeamcallLeaf(rawValue: number)
        if leaf == .mngCreate { beginFaults(module) }
        if leaf == .vpEnter {
            enter(&registers, box, processor, module)
        } else {
            let step = leaf.map { OwnershipStep($0, before, module) }
            let status = module.seamcall(&registers, on: processor)
            if status.isSuccess {
                step?.apply(module, memory)
                if leaf == .vpInit {
                    let script = script.withLock { $0 }
                    guests.withLock { $0[before.rcx] = ScriptedGuest(script) }
                }
            }
        }
        counts.count(
            number, TDXStatus(registers.rax), nanoseconds: MonotonicInstant.now.nanoseconds - begin.nanoseconds)
        box.answer(registers)
    }

    private func enter(
        _ registers: inout Registers, _ box: Mailbox, _ processor: LogicalProcessorID, _ module: TDXModule
    ) {
        let tdvpr = HostPhysicalAddress(registers.rcx & 0x000F_FFFF_FFFF_F000)
        // An exit in the guest's place (reason 48) is an answer, too.
        guard module.enter(&registers, on: processor) == .success else { return }
        // The vCPU is inside: this thread alone runs its guest.
        var guest = guests.withLock { $0.removeValue(forKey: tdvpr.rawValue) } ?? ScriptedGuest(options.guest)
        let log = log
        let exit = guest.run(
            ScriptedGuest.Surroundings(
                module: module, memory: memory, tdvpr: tdvpr, interruptIsPending: { box.interruptIsPending },
                say: { log("guest of TDVPR 0x\(hex(tdvpr.rawValue)): \($0)") }))
        guests.withLock { $0[tdvpr.rawValue] = guest }
        module.exit(exit, vcpu: tdvpr, into: &registers)
    }

    /// Does what a program in the machine has ordered.
    private func obey(_ box: Mailbox, _ module: TDXModule) {
        let text = box.order
        do throws(ServerError) {
            switch try LabOrder(parsing: text) {
            case .fault(let fault): module.faults.arm(fault.fault, times: fault.times, skipping: fault.skipping)
            case .busy(let permille, let seed): module.makeBusyAtRandom(permille: permille, seed: seed)
            case .guest(let steps): script.withLock { $0 = steps }
            case .calm:
                module.faults.clear()
                module.makeBusyAtRandom(permille: 0, seed: 0)
            }
            log("ordered: \(text)")
            box.answerOrder(true)
        } catch {
            log("\(error)")
            box.answerOrder(false)
        }
    }

    private func beginFaults(_ module: TDXModule) {
        guard faultsWait.exchange(false, ordering: .acquiringAndReleasing) else { return }
        for fault in options.faults { module.faults.arm(fault.fault, times: fault.times, skipping: fault.skipping) }
        if options.busyPermille > 0 { module.makeBusyAtRandom(permille: options.busyPermille, seed: options.seed) }
    }
}
