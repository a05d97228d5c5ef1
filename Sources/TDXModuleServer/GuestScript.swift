public import MemoryUnits

/// What every vCPU's guest does, a line or ";" a step. When it is over, the guest halts for good.
///
/// No instruction of a guest is executed: the server makes the TDCALLs and touches the memory that a guest would.
public struct GuestScript: Hashable, Sendable {
    public enum Step: Hashable, Sendable {
        /// TDG.MEM.PAGE.ACCEPT of each 4 KiB page.
        case accept(GuestPhysicalRange)
        /// Reads a private word, and logs its value.
        case read(GuestPhysicalAddress)
        /// Writes a private word.
        case write(GuestPhysicalAddress, UInt64)
        /// TDG.VP.VMCALL<MapGPA>, again from where the host asks for a retry.
        case map(GuestPhysicalRange, toShared: Bool)
        /// Computes for that long; interrupts are taken.
        case compute(milliseconds: UInt64)
        /// TDG.VP.VMCALL<Instruction.HLT>
        case halt
        /// TDG.VP.VMCALL<Instruction.IO>, one byte out.
        case output(port: UInt16, UInt8)
        /// TDG.VP.VMCALL<GetQuote> with a shared buffer.
        case quote(GuestPhysicalRange)
        /// TDG.VP.VMCALL<ReportFatalError>
        case fatal(code: UInt64)
        /// A triple fault: the TD is over.
        case tripleFault
        /// From the first step again.
        case again
    }

    public var steps: [Step]

    public init(_ steps: [Step]) { self.steps = steps }

    /// Halts at once and for good.
    public static let idle = GuestScript([])

    /// The steps' forms, for help.
    public static let grammar = """
        accept GPA SIZE, read GPA, write GPA WORD, share GPA SIZE, private GPA SIZE, compute MS, halt, \
        output PORT BYTE, quote GPA SIZE, fatal CODE, triple-fault, again; a number is decimal or 0x…
        """

    /// - Throws: the first step that is wrong, by number, and why.
    public init(parsing text: String) throws(ServerError) {
        steps = []
        let parts = text.split(whereSeparator: { $0 == ";" || $0.isNewline })
        var number = 0
        for part in parts {
            let words = part.split(whereSeparator: \.isWhitespace).map(String.init)
            guard let name = words.first, !name.starts(with: "#") else { continue }
            number += 1
            steps.append(try Self.step(name, Array(words.dropFirst()), number))
        }
        // A guest that computes nothing and never leaves could not be interrupted.
        if steps.contains(.again), steps.allSatisfy({ $0.staysInside }) {
            throw ServerError(
                "the guest's script never leaves the guest: “again” needs a compute, halt or call before it")
        }
    }

    private static func step(_ name: String, _ words: [String], _ number: Int) throws(ServerError) -> Step {
        func wrong(_ reason: String) -> ServerError { ServerError("step \(number) of the guest's script: \(reason)") }
        func value(_ index: Int, _ limit: UInt64 = .max) throws(ServerError) -> UInt64 {
            guard words.indices.contains(index) else { throw wrong("“\(name)” takes \(index + 1) numbers or more") }
            let word = words[index]
            let parsed = word.starts(with: "0x") ? UInt64(word.dropFirst(2), radix: 16) : UInt64(word)
            guard let parsed, parsed <= limit else {
                throw wrong("“\(word)” is not a number from 0 to 0x\(String(limit, radix: 16))")
            }
            return parsed
        }
        func address(_ multiple: UInt64) throws(ServerError) -> GuestPhysicalAddress {
            let value = try value(0, 1 << 51)
            guard value % multiple == 0 else {
                throw wrong("0x\(String(value, radix: 16)) is not a multiple of \(multiple)")
            }
            return GuestPhysicalAddress(value)
        }
        func range() throws(ServerError) -> GuestPhysicalRange {
            let start = try address(pageSize)
            let size = try value(1, 1 << 51)
            guard size > 0, size % pageSize == 0 else { throw wrong("\(size) bytes are no whole 4 KiB pages") }
            return GuestPhysicalRange(start: start, size: ByteCount(size))
        }
        let step: Step
        let count: Int
        switch name {
        case "accept": (step, count) = (.accept(try range()), 2)
        case "read": (step, count) = (.read(try address(8)), 1)
        case "write": (step, count) = (.write(try address(8), try value(1)), 2)
        case "share": (step, count) = (.map(try range(), toShared: true), 2)
        case "private": (step, count) = (.map(try range(), toShared: false), 2)
        case "compute": (step, count) = (.compute(milliseconds: try value(0, 3_600_000)), 1)
        case "halt": (step, count) = (.halt, 0)
        case "output": (step, count) = (.output(port: UInt16(try value(0, 0xFFFF)), UInt8(try value(1, 0xFF))), 2)
        case "quote": (step, count) = (.quote(try range()), 2)
        case "fatal": (step, count) = (.fatal(code: try value(0)), 1)
        case "triple-fault": (step, count) = (.tripleFault, 0)
        case "again": (step, count) = (.again, 0)
        default: throw wrong("“\(name)” is unknown; there are \(grammar)")
        }
        guard words.count == count else { throw wrong("“\(name)” takes \(count) numbers, not \(words.count)") }
        return step
    }
}

extension GuestScript.Step {
    /// Such a step ends without an exit.
    var staysInside: Bool {
        switch self {
        case .accept, .read, .write, .again: true
        case .map, .compute, .halt, .output, .quote, .fatal, .tripleFault: false
        }
    }
}
