internal import FoundationEssentials
internal import MemoryUnits

/// The JSON form of a trace: a first line that describes the platform, then one line for each call. Numbers of 64 bits
/// are hexadecimal text; registers that are 0 on the way in, or unchanged on the way out, are left out.
public enum TraceFormatError: Error, Hashable, Sendable {
    /// The first line is not a platform; the parser's reason.
    case badHeader(String)
    /// A line (1 is the header) is not a call; the parser's reason.
    case badLine(Int, String)
}

extension TraceFormatError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .badHeader(let reason): "the first line describes no platform: \(reason)"
        case .badLine(let line, let reason): "line \(line) is not a recorded call: \(reason)"
        }
    }
}

struct TraceHeader: Codable {
    /// 2: a call's "out" lists every register that changed. 1: only those that the recording states.
    var trace = 2
    var version: String
    var packages: Int
    var processors_per_package: Int
    var mktme_keys: UInt16
    var tdx_keys: UInt16
    var key_id_bits: Int
    var convertible: [[String]]
    /// The recording began on a module that had been brought up; with dynamic PAMT when 2.
    var brought_up: Int

    init(_ platform: PlatformDescription, broughtUp: Int) {
        version = platform.version.rawValue
        packages = platform.packages
        processors_per_package = platform.logicalProcessorsPerPackage
        mktme_keys = platform.mktmeKeys
        tdx_keys = platform.tdxKeys
        key_id_bits = platform.keyIDBits
        convertible = platform.convertibleMemory.map { [traceHex($0.start.rawValue), traceHex($0.size.rawValue)] }
        brought_up = broughtUp
    }

    var platform: PlatformDescription? {
        guard let version = ModuleVersion(rawValue: version) else { return nil }
        var ranges: [HostPhysicalRange] = []
        for pair in convertible {
            guard pair.count == 2, let start = traceNumber(pair[0]), let size = traceNumber(pair[1]),
                start <= .max - size
            else { return nil }
            ranges.append(HostPhysicalRange(start: HostPhysicalAddress(start), size: ByteCount(size)))
        }
        return PlatformDescription(
            convertibleMemory: ranges, packages: packages, logicalProcessorsPerPackage: processors_per_package,
            mktmeKeys: mktme_keys, tdxKeys: tdx_keys, keyIDBits: key_id_bits, version: version)
    }
}

struct TraceLine: Codable {
    struct Memory: Codable {
        var address: String
        var key: UInt16
        var bytes: String
    }
    struct Exit: Codable {
        var reason: String
        var gpa: String?
        var qualification: String?
        /// kind, requested level, entry level, state, leaf.
        var extended: [UInt8]?
        var vmx_reason: UInt32?
        var registers: [String: String]?
    }

    var kind: String
    /// The leaf's name, for people.
    var leaf: String?
    var processor: UInt32?
    var tdvpr: String?
    var exit: Exit?
    var `in`: [String: String]
    var out: [String: String]
    var memory: [Memory]?
    /// Locks that the injector held.
    var held: [String]?
    /// Faults that the call met: number, and places that looked before.
    var faults: [[Int]]?
}

func traceHex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

func traceNumber(_ text: String) -> UInt64? {
    text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : nil
}

private let digits = Array("0123456789abcdef".utf8)

private func bytesText(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
    return String(decoding: text, as: UTF8.self)
}

private func bytes(_ text: String) -> [UInt8]? {
    let characters = Array(text.utf8)
    guard characters.count % 2 == 0 else { return nil }
    var result: [UInt8] = []
    for index in stride(from: 0, to: characters.count, by: 2) {
        guard let high = digits.firstIndex(of: characters[index]),
            let low = digits.firstIndex(of: characters[index + 1])
        else { return nil }
        result.append(UInt8(high << 4 | low))
    }
    return result
}

extension Registers {
    static var names: [(name: String, path: WritableKeyPath<Registers, UInt64>)] {
        [
            ("rax", \.rax), ("rcx", \.rcx), ("rdx", \.rdx), ("rbx", \.rbx), ("rbp", \.rbp), ("rsi", \.rsi),
            ("rdi", \.rdi), ("r8", \.r8), ("r9", \.r9), ("r10", \.r10), ("r11", \.r11), ("r12", \.r12), ("r13", \.r13),
            ("r14", \.r14), ("r15", \.r15),
        ]
    }

    /// Registers that differ from `base`.
    func changes(from base: Registers) -> [String: String] {
        var result: [String: String] = [:]
        for (name, path) in Self.names where self[keyPath: path] != base[keyPath: path] {
            result[name] = traceHex(self[keyPath: path])
        }
        return result
    }

    /// `base` with changes; nil when a name or number is not a register's.
    init?(_ changes: [String: String], base: Registers) {
        self = base
        for (name, text) in changes {
            guard let path = Self.names.first(where: { $0.name == name })?.path, let value = traceNumber(text) else {
                return nil
            }
            self[keyPath: path] = value
        }
    }
}

extension TraceEvent {
    /// The event as one line of JSON, without a line break.
    public func json() -> String {
        let number = UInt16(truncatingIfNeeded: before.rax)
        let name: String? =
            switch kind {
            case .seamcall, .enter: SeamcallLeaf(rawValue: number)?.name
            case .tdcall: TDCallLeaf(rawValue: number)?.name
            case .exit: nil
            }
        let isHost = kind == .seamcall || kind == .enter
        let line = TraceLine(
            kind: kind.rawValue, leaf: name, processor: isHost ? processor : nil, tdvpr: isHost ? nil : traceHex(tdvpr),
            exit: exit.map(TraceLine.Exit.init), in: before.changes(from: Registers()),
            out: after.changes(from: before),
            memory: contents.isEmpty
                ? nil
                : contents.map { .init(address: traceHex($0.address), key: $0.key, bytes: bytesText($0.bytes)) },
            held: heldLocks.isEmpty ? nil : heldLocks.map(\.rawValue), faults: faults.isEmpty ? nil : faults)
        return encode(line)
    }

    init?(_ line: TraceLine) {
        guard let kind = Kind(rawValue: line.kind), let before = Registers(line.in, base: Registers()),
            let after = Registers(line.out, base: before)
        else { return nil }
        self.init(kind: kind, before: before, after: after)
        processor = line.processor ?? 0
        tdvpr = line.tdvpr.flatMap(traceNumber) ?? 0
        if let exit = line.exit {
            guard let decoded = TDExit(exit) else { return nil }
            self.exit = decoded
        }
        for memory in line.memory ?? [] {
            guard let address = traceNumber(memory.address), let bytes = bytes(memory.bytes) else { return nil }
            contents.append(Contents(address: address, key: memory.key, bytes: bytes))
        }
        for name in line.held ?? [] {
            guard let lock = LockName(rawValue: name) else { return nil }
            heldLocks.append(lock)
        }
        faults = line.faults ?? []
        guard faults.allSatisfy({ $0.count == 2 && Fault(rawValue: $0[0]) != nil && $0[1] >= 0 }) else { return nil }
    }

    /// The first line of a trace. `broughtUp`: the recording begins after `bringUp()`.
    public static func header(_ module: TDXModule, broughtUp: Bool) -> String {
        encode(TraceHeader(module.platform, broughtUp: broughtUp ? (module.usesDynamicPAMT ? 2 : 1) : 0))
    }
}

private func encode(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // Text, small integers and booleans alone: nothing that cannot be encoded.
    guard let data = try? encoder.encode(value) else { preconditionFailure("a trace line cannot be encoded") }
    return String(decoding: data, as: UTF8.self)
}

extension TraceLine.Exit {
    init(_ exit: TDExit) {
        switch exit {
        case .externalInterrupt: self.init(reason: "external-interrupt")
        case .halt: self.init(reason: "halt")
        case .machineCheck: self.init(reason: "machine-check")
        case .hostPriorityTimeout: self.init(reason: "host-priority-timeout")
        case .nonRecoverableVCPU(let reason): self.init(reason: "non-recoverable-vcpu", vmx_reason: reason)
        case .nonRecoverableTD(let reason): self.init(reason: "non-recoverable-td", vmx_reason: reason)
        case .vmcall(let registers):
            self.init(reason: "vmcall", registers: registers.changes(from: Registers()))
        case .eptViolation(let gpa, let qualification, let extended):
            self.init(
                reason: "ept-violation", gpa: traceHex(gpa.rawValue), qualification: traceHex(qualification),
                extended: [
                    extended.kind.rawValue, extended.requestedLevel, extended.entryLevel, extended.entryState,
                    extended.isLeaf ? 1 : 0,
                ])
        }
    }
}

extension TDExit {
    init?(_ exit: TraceLine.Exit) {
        switch exit.reason {
        case "external-interrupt": self = .externalInterrupt
        case "halt": self = .halt
        case "machine-check": self = .machineCheck
        case "host-priority-timeout": self = .hostPriorityTimeout
        case "non-recoverable-vcpu": self = .nonRecoverableVCPU(reason: exit.vmx_reason ?? 0)
        case "non-recoverable-td": self = .nonRecoverableTD(reason: exit.vmx_reason ?? 0)
        case "vmcall":
            guard let registers = Registers(exit.registers ?? [:], base: Registers()) else { return nil }
            self = .vmcall(registers: registers)
        case "ept-violation":
            guard let gpa = exit.gpa.flatMap(traceNumber), let qualification = exit.qualification.flatMap(traceNumber),
                let extended = exit.extended, extended.count == 5,
                let kind = ExtendedQualification.Kind(rawValue: extended[0])
            else { return nil }
            self = .eptViolation(
                gpa: GuestPhysicalAddress(gpa), qualification: qualification,
                extended: ExtendedQualification(
                    kind: kind, requestedLevel: extended[1], entryLevel: extended[2], entryState: extended[3],
                    isLeaf: extended[4] != 0))
        default: return nil
        }
    }
}
