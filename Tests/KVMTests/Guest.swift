import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// 32-bit machine code with labels; jumps are near, with 32-bit distances.
struct MachineCode {
    private(set) var bytes: [UInt8] = []
    private var labels: [String: Int] = [:]
    private var distances: [(place: Int, label: String)] = []

    mutating func emit(_ code: UInt8...) { bytes += code }
    mutating func emit(word: UInt32) {
        for shift in [0, 8, 16, 24] { bytes.append(UInt8(word >> UInt32(shift) & 0xFF)) }
    }
    mutating func label(_ name: String) { labels[name] = bytes.count }

    /// A jump with the given opcode to a label.
    mutating func jump(_ opcode: UInt8..., to label: String) {
        bytes += opcode
        distances.append((bytes.count, label))
        emit(word: 0)
    }

    /// The code with every distance filled in.
    func assembled() -> [UInt8] {
        var result = bytes
        for (place, label) in distances {
            let distance = UInt32(bitPattern: Int32(labels[label]! - (place + 4)))
            for byte in 0..<4 { result[place + byte] = UInt8(distance >> UInt32(8 * byte) & 0xFF) }
        }
        return result
    }
}

/// A guest that obeys: it reads commands from port 0x500 and answers there. The host thus decides step by step what a
/// real vCPU does to its memory.
final class Guest {
    enum Failure: Error { case unexpected(VCPUExit), stuck }

    /// A failure with what can be told of the guest: whether it is its registers that went astray, its program, or
    /// neither.
    struct Astray: Error, CustomStringConvertible {
        let failure: Failure
        let command: Command
        /// Words of it that the guest has not read.
        let unread: Int
        let registers: String
        /// Where its page differs from the program that was put there; nil where it does not.
        let firstDifference: Int?

        var description: String {
            "\(failure) in “\(command)”, \(unread) words unread, \(registers), program "
                + (firstDifference.map { "differs at 0x\(String($0, radix: 16))" } ?? "as it was")
        }
    }

    static let port: UInt16 = 0x500
    /// The guest's own page; memory from 0 to 64 KiB belongs to the program.
    static let start: UInt64 = 0x1000
    static let programSize: UInt64 = 64 << 10

    let vm: KernelVirtualMachine
    let vcpu: any KVMVirtualCPU
    private let program: MemoryFile
    private let programMapping: FileMapping
    /// What slots refer to, by address or by a descriptor that closes with its owner: it must live as long as the
    /// guest.
    private var kept: [AnyObject] = []

    /// - Parameter slot: the slot of the program's memory. Other vCPUs of the VM may share it: pass `sharing`.
    init(_ vm: KernelVirtualMachine, vcpu id: UInt32 = 0, slot: UInt32 = 30, sharing other: Guest? = nil) throws {
        self.vm = vm
        if let other {
            program = other.program
            programMapping = other.programMapping
        } else {
            program = try MemoryFile(name: "guest-program", size: ByteCount(Self.programSize))
            programMapping = try program.map(length: ByteCount(Self.programSize))
            programMapping.store(Self.interpreter, at: Int(Self.start))
            try vm.setMemorySlot(
                MemorySlot(
                    id: slot, range: GuestPhysicalRange(start: .init(0), size: ByteCount(Self.programSize)),
                    userspaceAddress: UInt(bitPattern: programMapping.baseAddress)))
        }
        vcpu = try vm.createVCPU(id: id)
        var registers = VCPURegisters()
        registers.rip = Self.start
        try vcpu.start(mode: .protected32, registers: registers)
    }

    func keep(_ object: AnyObject) { kept.append(object) }

    /// Runs until the next exit, for at most a minute: far beyond what a loaded machine or an emulated one takes.
    func exit() throws -> VCPUExit {
        let exit = try vcpu.run(within: 60_000)
        if exit == .interrupted { throw Failure.stuck }
        return exit
    }

    /// Gives a command and its operands, and returns the answer. Exits that are not part of the dialogue go to `other`.
    @discardableResult
    func ask(
        _ command: Command, _ operands: UInt32..., other: (VCPUExit) throws -> Void = { throw Failure.unexpected($0) }
    ) throws -> UInt32 {
        var words = [command.rawValue] + operands
        do {
            while true {
                switch try exit() {
                case .io(isWrite: false, size: 4, port: Self.port, _) where !words.isEmpty:
                    let word = words.removeFirst()
                    vcpu.completeInput((0..<4).map { UInt8(word >> UInt32(8 * $0) & 0xFF) })
                case .io(isWrite: true, size: 4, port: Self.port, let data) where words.isEmpty:
                    return data.enumerated().reduce(0) { $0 | UInt32($1.element) << UInt32(8 * $1.offset) }
                case let exit:
                    try other(exit)
                }
            }
        } catch let failure as Failure {
            throw astray(failure, command, unread: words.count)
        }
    }

    private func astray(_ failure: Failure, _ command: Command, unread: Int) -> Astray {
        let found = UnsafeRawBufferPointer(
            start: programMapping.baseAddress + Int(Self.start), count: Self.interpreter.count)
        return Astray(
            failure: failure, command: command, unread: unread,
            registers: (try? vcpu.registers()).map { "\($0)" } ?? "registers unknown",
            firstDifference: zip(found, Self.interpreter).enumerated().first { $1.0 != $1.1 }?.offset)
    }

    enum Command: UInt32 {
        /// address → the dword there
        case read = 1
        /// address, dword
        case write
        /// address, number of dwords, dword
        case fill
        /// address, number of dwords, dword → 0 if all are equal, else the address behind the first that differs
        case verify
        /// number, three arguments → result
        case hypercall
        /// address, dword → the first other value found there
        case spin
        /// address of a descriptor for LIDT, then a general protection fault
        case fault
    }

    func fill(_ address: UInt64, _ bytes: UInt64, _ value: UInt8) throws {
        try ask(.fill, UInt32(address), UInt32(bytes / 4), UInt32(value) * 0x0101_0101)
    }

    /// Whether the guest sees the value in every byte.
    func holds(_ value: UInt8, _ address: UInt64, _ bytes: UInt64) throws -> Bool {
        try ask(.verify, UInt32(address), UInt32(bytes / 4), UInt32(value) * 0x0101_0101) == 0
    }

    func store(_ bytes: [UInt8], at address: UInt64) { programMapping.store(bytes, at: Int(address)) }

    static let interpreter: [UInt8] = {
        var code = MachineCode()
        func take(_ code: inout MachineCode, into registers: UInt8...) {
            // in eax, dx; mov register, eax
            for register in registers { code.emit(0xED, 0x89, register) }
        }
        let (ebx, ecx, esi, edi, ebp): (UInt8, UInt8, UInt8, UInt8, UInt8) = (0xC3, 0xC1, 0xC6, 0xC7, 0xC5)
        code.label("start")
        code.emit(0xBA)  // mov edx, port
        code.emit(word: UInt32(Guest.port))
        code.emit(0xFC)  // cld
        code.label("next")
        code.emit(0xED)  // in eax, dx
        for (number, name) in ["read", "write", "fill", "verify", "hypercall", "spin", "fault"].enumerated() {
            code.emit(0x83, 0xF8, UInt8(number + 1))  // cmp eax, number
            code.jump(0x0F, 0x84, to: name)  // je
        }
        code.emit(0xF4)  // hlt
        code.label("answer")
        code.emit(0xEF)  // out dx, eax
        code.jump(0xE9, to: "next")
        code.label("read")
        take(&code, into: ebx)
        code.emit(0x8B, 0x03)  // mov eax, [ebx]
        code.jump(0xE9, to: "answer")
        code.label("write")
        take(&code, into: ebx)
        code.emit(0xED, 0x89, 0x03)  // in eax, dx; mov [ebx], eax
        code.jump(0xE9, to: "answer")
        code.label("fill")
        take(&code, into: edi, ecx)
        code.emit(0xED, 0xF3, 0xAB)  // in eax, dx; rep stosd
        code.jump(0xE9, to: "answer")
        code.label("verify")
        take(&code, into: edi, ecx)
        code.emit(0xED, 0xF3, 0xAF)  // in eax, dx; repe scasd
        code.emit(0x89, 0xF8)  // mov eax, edi
        code.jump(0x0F, 0x85, to: "answer")  // jne
        code.emit(0x31, 0xC0)  // xor eax, eax
        code.jump(0xE9, to: "answer")
        code.label("hypercall")
        take(&code, into: ebp, ebx, ecx, esi)
        code.emit(0x89, 0xF2, 0x89, 0xE8)  // mov edx, esi; mov eax, ebp
        code.emit(0x0F, 0x01, Machine.isAMD ? 0xD9 : 0xC1)  // vmmcall or vmcall
        code.emit(0xBA)  // mov edx, port
        code.emit(word: UInt32(Guest.port))
        code.jump(0xE9, to: "answer")
        code.label("spin")
        take(&code, into: ebx, ecx)
        code.label("spinning")
        code.emit(0x8B, 0x03, 0x39, 0xC8)  // mov eax, [ebx]; cmp eax, ecx
        code.jump(0x0F, 0x84, to: "spinning")  // je
        code.jump(0xE9, to: "answer")
        code.label("fault")
        take(&code, into: ebx)
        code.emit(0x0F, 0x01, 0x1B)  // lidt [ebx]
        code.emit(0xB8)  // mov eax, a selector without descriptor
        code.emit(word: 0xFFF8)
        code.emit(0x8E, 0xD8)  // mov ds, ax
        code.jump(0xE9, to: "answer")
        return code.assembled()
    }()
}

extension GuestPhysicalRange {
    init(_ start: UInt64, _ size: UInt64) { self.init(start: GuestPhysicalAddress(start), size: ByteCount(size)) }
}
