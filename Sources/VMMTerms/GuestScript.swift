/// What an emulated guest does, step by step, as a test of a VMM writes it: one step a line.
///
/// The language is described in docs/vmm.md. A script is data: nothing of it runs on the host.
public struct GuestScript: Hashable, Sendable {
    /// The steps of each vCPU that has any, by its number.
    public var steps: [UInt32: [NumberedStep]]

    public init(steps: [UInt32: [NumberedStep]]) { self.steps = steps }

    /// The last step's line; 0 for an empty script.
    public var lastLine: Int { steps.values.flatMap { $0 }.map(\.lastLine).max() ?? 0 }
}

/// A step and where it stands.
public struct NumberedStep: Hashable, Sendable {
    /// Counted from 1.
    public var line: Int
    public var step: GuestStep

    public init(line: Int, step: GuestStep) {
        self.line = line
        self.step = step
    }

    var lastLine: Int {
        if case .repeated(_, let steps) = step { return steps.map(\.lastLine).max() ?? line }
        return line
    }
}

/// One thing that a guest does. Addresses are guest-physical, without the shared bit; sizes are in bytes.
public indirect enum GuestStep: Hashable, Sendable {
    /// TDG.MEM.PAGE.ACCEPT of every page; both page aligned.
    case accept(address: UInt64, size: UInt64)
    /// All memory that the hand-off block calls unaccepted.
    case acceptAll
    /// A load, private or shared by the guest's page tables; what is read goes to the report. 1 … 4,096 bytes.
    case read(address: UInt64, count: Int)
    /// A store; 1 … 4,096 bytes.
    case write(address: UInt64, bytes: [UInt8])
    /// A load whose bytes must be these.
    case expect(address: UInt64, bytes: [UInt8])
    /// MapGPA with what a guest kernel does around it; both page aligned. `succeeds` is what the script expects.
    case convert(address: UInt64, size: UInt64, toShared: Bool, succeeds: Bool)
    /// MMIO by TDVMCALL; 1, 2, 4 or 8 bytes.
    case mmioRead(address: UInt64, size: Int, expected: UInt64?)
    case mmioWrite(address: UInt64, size: Int, value: UInt64)
    /// A port access by TDVMCALL; 1, 2 or 4 bytes.
    case portRead(port: UInt16, size: Int, expected: UInt64?)
    case portWrite(port: UInt16, size: Int, value: UInt64)
    /// TDG.VP.VMCALL of any number, with registers in and registers expected, by name: r10 … r15.
    case vmcall(number: UInt64, registers: [String: UInt64], expected: [String: UInt64])
    /// The guest computes for so long; interrupts reach it meanwhile.
    case wait(milliseconds: UInt64)
    /// Text on the first serial port, a byte at a time.
    case print(String)
    /// ReportFatalError with this code.
    case fatal(code: UInt64)
    /// A reset as a PC's guest asks for it: port 0xCF9.
    case reset
    /// The power button of QEMU's q35 machine, by its ACPI registers.
    case powerOff
    /// Steps, so many times.
    case repeated(count: UInt64, steps: [NumberedStep])
}

/// What is wrong with a line of a script.
public struct GuestScriptError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Counted from 1.
    public var line: Int
    public var message: String

    public init(line: Int, message: String) {
        self.line = line
        self.message = message
    }

    /// "line 3: …"
    public var description: String { "line \(line): \(message)" }
}
