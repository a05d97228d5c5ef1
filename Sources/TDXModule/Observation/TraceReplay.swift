internal import FoundationEssentials
internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

/// A recording made again, call by call, on a module of its own.
public struct TraceReplay: Sendable {
    /// Where the module and a recording disagree.
    public struct Disagreement: Hashable, Sendable {
        /// The line in the recording, from 1; the header is line 1.
        public var line: Int
        /// The leaf or event.
        public var call: String
        /// A register's name, or "exit".
        public var what: String
        public var recorded: String
        public var replayed: String
    }

    /// Calls that were made again.
    public private(set) var calls = 0
    public private(set) var disagreements: [Disagreement] = []

    /// Makes every call of a recording again: a header line, then one JSON line for each call. Empty lines are skipped.
    public init(lines: some Sequence<some StringProtocol>) throws {
        var module: TDXModule?
        var isComplete = true
        let memory = SimulatedMemory()
        let decoder = JSONDecoder()
        for (index, line) in lines.enumerated() where !line.isEmpty {
            let data = Data(line.utf8)
            guard let module else {
                (module, isComplete) = try Self.start(data, decoder, memory)
                continue
            }
            let decoded: TraceLine
            do {
                decoded = try decoder.decode(TraceLine.self, from: data)
            } catch { throw TraceFormatError.badLine(index + 1, "\(error)") }
            guard let event = TraceEvent(decoded) else {
                throw TraceFormatError.badLine(index + 1, "a field has an unknown name or value")
            }
            let stated = isComplete ? nil : Set(decoded.out.keys)
            try replay(event, index + 1, module, memory, stated)
        }
        guard module != nil else { throw TraceFormatError.badHeader("the recording is empty") }
    }

    private static func start(
        _ data: Data, _ decoder: JSONDecoder, _ memory: SimulatedMemory
    ) throws -> (module: TDXModule, isComplete: Bool) {
        let header: TraceHeader
        do { header = try decoder.decode(TraceHeader.self, from: data) } catch {
            throw TraceFormatError.badHeader("\(error)")
        }
        guard let platform = header.platform else { throw TraceFormatError.badHeader("the platform is unknown") }
        let module = try TDXModule(platform: platform, memory: memory)
        if header.brought_up > 0 {
            let status = module.bringUp(dynamicPAMT: header.brought_up == 2)
            guard status.isSuccess else { throw TraceFormatError.badHeader("the module does not start: \(status)") }
        }
        return (module, header.trace >= 2)
    }

    /// `stated` are the registers that the recording's "out" names; nil when it names all that changed.
    private mutating func replay(
        _ event: TraceEvent, _ line: Int, _ module: TDXModule, _ memory: SimulatedMemory, _ stated: Set<String>?
    ) throws {
        for contents in event.contents {
            // Checked one by one: the sum may exceed 64 bits.
            guard contents.address >> 52 == 0, UInt64(contents.bytes.count) <= 1 << 52 - contents.address else {
                throw TraceFormatError.badLine(line, "a memory address exceeds 52 bits")
            }
            memory.store(contents.bytes, at: contents.address, key: KeyID(contents.key))
        }
        guard Int(event.processor) < module.platform.logicalProcessors else {
            throw TraceFormatError.badLine(line, "the platform has no logical processor \(event.processor)")
        }
        // What the recording's injector did to the call happens again.
        for lock in event.heldLocks { module.makeBusy(lock) }
        for fault in event.faults { module.faults.arm(Fault(rawValue: fault[0])!, skipping: fault[1]) }
        var registers = event.before
        var exit: TDExit?
        var call = event.kind.rawValue
        let tdvpr = HostPhysicalAddress(event.tdvpr)
        switch event.kind {
        case .seamcall:
            module.seamcall(&registers, on: LogicalProcessorID(event.processor))
            call = SeamcallLeaf(rawValue: UInt16(truncatingIfNeeded: event.before.rax))?.name ?? call
        case .enter: module.enter(&registers, on: LogicalProcessorID(event.processor))
        case .exit:
            guard let reason = event.exit else { throw TraceFormatError.badLine(line, "an exit without a reason") }
            _ = module.exit(reason, vcpu: tdvpr, into: &registers)
            exit = reason
        case .tdcall:
            if case .exit(let reason) = module.tdcall(&registers, vcpu: tdvpr) { exit = reason }
            call = TDCallLeaf(rawValue: UInt16(truncatingIfNeeded: event.before.rax))?.name ?? call
        }
        calls += 1
        if exit != event.exit { note(line, call, "exit", "\(event.exit as Any)", "\(exit as Any)") }
        // An exit's outputs start from the host's registers, which the recording does not hold.
        let compared = event.kind == .exit ? ["rax", "rcx", "rdx"] : Registers.names.map(\.name)
        for (name, path) in Registers.names where compared.contains(name) && stated?.contains(name) != false {
            let (recorded, replayed) = (event.after[keyPath: path], registers[keyPath: path])
            if recorded != replayed { note(line, call, name, describe(name, recorded), describe(name, replayed)) }
        }
    }

    private func describe(_ name: String, _ value: UInt64) -> String {
        name == "rax" ? TDXStatus(value).description : traceHex(value)
    }

    private mutating func note(_ line: Int, _ call: String, _ what: String, _ recorded: String, _ replayed: String) {
        disagreements.append(
            Disagreement(line: line, call: call, what: what, recorded: recorded, replayed: replayed))
    }
}
