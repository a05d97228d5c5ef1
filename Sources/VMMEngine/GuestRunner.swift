internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import TDXEmulator
internal import TDXModule
internal import VMMTerms

/// One vCPU's program, on the guest's own thread.
struct GuestRunner {
    private let processor: GuestProcessor
    /// Accepts nothing by itself.
    private let kernel: GuestKernel
    private let guest: EngineGuest

    private static let serialPort: UInt16 = 0x3F8
    private static let portCall: UInt64 = 30
    private static let memoryCall: UInt64 = 48
    private static let writes: UInt64 = 1

    init(_ processor: GuestProcessor, tables: GuestPageTables, guest: EngineGuest) {
        self.processor = processor
        self.guest = guest
        kernel = GuestKernel(processor, acceptance: .eager, tables: tables)
    }

    // MARK: Scripts

    func run(_ steps: [NumberedStep]) throws(GuestFault) {
        for numbered in steps { try perform(numbered) }
    }

    private func perform(_ numbered: NumberedStep) throws(GuestFault) {
        if case .repeated(let count, let steps) = numbered.step {
            for _ in 0..<count { try run(steps) }
            return
        }
        guest.count()
        do throws(GuestFault) {
            try perform(numbered.step, numbered.line)
        } catch {
            if error == .stopped { throw error }
            guest.fail("line \(numbered.line): \(error.words)")
        }
    }

    private func perform(_ step: GuestStep, _ line: Int) throws(GuestFault) {
        func check(_ holds: Bool, _ text: @autoclosure () -> String) {
            if !holds { guest.fail("line \(line): \(text())") }
        }
        switch step {
        case .accept(let address, let size):
            let range = GuestPhysicalRange(start: GuestPhysicalAddress(address), size: ByteCount(size))
            check(try kernel.accept(range), "a page of \(range) was not accepted")
        case .acceptAll:
            if let bytes = try acceptAll() {
                guest.say("line \(line): accepted \(bytes)")
            } else {
                check(false, "no hand-off block at 0x\(String(processor.initialRCX, radix: 16))")
            }
        case .read(let address, let count):
            let bytes = try kernel.read(GuestPhysicalAddress(address), count: count)
            guest.say("line \(line): 0x\(String(address, radix: 16)): \(hexadecimal(bytes))")
        case .write(let address, let bytes): try kernel.write(GuestPhysicalAddress(address), bytes)
        case .expect(let address, let bytes):
            let found = try kernel.read(GuestPhysicalAddress(address), count: bytes.count)
            check(
                found == bytes,
                "0x\(String(address, radix: 16)) has \(hexadecimal(found)), expected \(hexadecimal(bytes))")
        case .convert(let address, let size, let toShared, let succeeds):
            let range = GuestPhysicalRange(start: GuestPhysicalAddress(address), size: ByteCount(size))
            let done = try kernel.convert(range, toShared: toShared)
            check(
                done == succeeds,
                "the conversion of \(range) to \(toShared ? "shared" : "private") was "
                    + (done ? "done, a refusal was expected" : "refused"))
        case .mmioRead(let address, let size, let expected):
            try input(Self.memoryCall, address | processor.sharedBit, size, expected, line, "MMIO")
        case .mmioWrite(let address, let size, let value):
            try output(Self.memoryCall, address | processor.sharedBit, size, value, line, "MMIO")
        case .portRead(let port, let size, let expected):
            try input(Self.portCall, UInt64(port), size, expected, line, "port")
        case .portWrite(let port, let size, let value):
            try output(Self.portCall, UInt64(port), size, value, line, "port")
        case .vmcall(let number, let registers, let expected):
            let answer = try processor.vmcall(
                number, r12: registers["r12"] ?? 0, r13: registers["r13"] ?? 0, r14: registers["r14"] ?? 0,
                r15: registers["r15"] ?? 0)
            let found = [
                "r10": answer.r10, "r11": answer.r11, "r12": answer.r12, "r13": answer.r13, "r14": answer.r14,
                "r15": answer.r15,
            ]
            for (name, value) in expected.sorted(by: { $0.key < $1.key }) {
                check(
                    found[name] == value,
                    "the call answered \(name)=0x\(String(found[name]!, radix: 16)), expected "
                        + "0x\(String(value, radix: 16))")
            }
            if expected.isEmpty {
                let text = found.sorted { $0.key < $1.key }.map { "\($0)=0x\(String($1, radix: 16))" }
                guest.say("line \(line): \(text.joined(separator: " "))")
            }
        case .wait(let milliseconds): try wait(milliseconds)
        case .print(let text): try print(text)
        case .fatal(let code): try reportFatal(code, "line \(line)")
        case .reset: try reset()
        case .powerOff: try powerOff()
        case .repeated: break
        }
    }

    private func input(
        _ call: UInt64, _ place: UInt64, _ size: Int, _ expected: UInt64?, _ line: Int, _ kind: String
    ) throws(GuestFault) {
        let answer = try processor.vmcall(call, r12: UInt64(size), r13: 0, r14: place)
        let where_ = "\(kind) 0x\(String(place & ~processor.sharedBit, radix: 16))"
        guard answer.r10 == 0 else {
            guest.fail("line \(line): \(where_) was refused with 0x\(String(answer.r10, radix: 16))")
            return
        }
        let mask = size == 8 ? UInt64.max : 1 << UInt64(8 * size) - 1
        let value = answer.r11 & mask
        guard let expected else {
            guest.say("line \(line): \(where_): 0x\(String(value, radix: 16))")
            return
        }
        if value != expected {
            guest.fail(
                "line \(line): \(where_) reads 0x\(String(value, radix: 16)), expected 0x\(String(expected, radix: 16))"
            )
        }
    }

    private func output(
        _ call: UInt64, _ place: UInt64, _ size: Int, _ value: UInt64, _ line: Int, _ kind: String
    ) throws(GuestFault) {
        let answer = try processor.vmcall(call, r12: UInt64(size), r13: Self.writes, r14: place, r15: value)
        if answer.r10 != 0 {
            guest.fail(
                "line \(line): \(kind) 0x\(String(place & ~processor.sharedBit, radix: 16)) was refused with "
                    + "0x\(String(answer.r10, radix: 16))")
        }
    }

    // MARK: What guests do

    /// Accepts what the hand-off block calls unaccepted; nil where there is none.
    private func acceptAll() throws(GuestFault) -> ByteCount? {
        guard let ranges = try unaccepted() else { return nil }
        var total = ByteCount.zero
        for range in ranges {
            guard try kernel.accept(range) else {
                guest.fail("a page of \(range) was not accepted")
                continue
            }
            total = total + range.size
        }
        return total
    }

    private func unaccepted() throws(GuestFault) -> [GuestPhysicalRange]? {
        let address = processor.initialRCX
        guard address != 0, address % 8 == 0, address < 1 << 46 else { return nil }
        return try HandOffBlock.unaccepted { offset, count throws(GuestFault) in
            try processor.read(GuestPhysicalAddress(address + offset), count: count)
        }
    }

    private func wait(_ milliseconds: UInt64) throws(GuestFault) {
        let end = MonotonicInstant.now.nanoseconds + milliseconds * 1_000_000
        repeat {
            try processor.pause()
            CurrentThread.sleep(milliseconds: min(milliseconds, 1))
        } while MonotonicInstant.now.nanoseconds < end
    }

    func port(_ port: UInt16, _ size: Int, write value: UInt64) throws(GuestFault) {
        _ = try processor.vmcall(
            Self.portCall, r12: UInt64(size), r13: Self.writes, r14: UInt64(port), r15: value)
    }

    func print(_ text: String) throws(GuestFault) {
        guest.say(text)
        for byte in text.utf8 {
            if byte == UInt8(ascii: "\n") { try port(Self.serialPort, 1, write: UInt64(UInt8(ascii: "\r"))) }
            try port(Self.serialPort, 1, write: UInt64(byte))
        }
    }

    private func reportFatal(_ code: UInt64, _ text: String) throws(GuestFault) {
        guest.say("ReportFatalError, code 0x\(String(code, radix: 16))")
        // R14, R15 and more carry a text of eight bytes each.
        let bytes = Array(text.utf8.prefix(16)) + [UInt8](repeating: 0, count: 16)
        func word(_ start: Int) -> UInt64 { (0..<8).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64(8 * $1) } }
        _ = try processor.vmcall(0x10003, r12: code, r13: 0, r14: word(0), r15: word(8))
    }

    /// The reset control register of a PC.
    private func reset() throws(GuestFault) {
        try port(0xCF9, 1, write: 2)
        try port(0xCF9, 1, write: 6)
        // The machine is on its way down.
        try wait(2000)
    }

    /// What firmware and an operating system do to turn QEMU's q35 off: the power-management base in the LPC bridge
    /// (device 31), then "sleep" with type 0, "soft off", in its control register.
    private func powerOff() throws(GuestFault) {
        try port(0xCF8, 4, write: 0x8000_F840)
        try port(0xCFC, 4, write: 0x600)
        try port(0xCF8, 4, write: 0x8000_F844)
        try port(0xCFC, 1, write: 0x80)
        try port(0x604, 2, write: 1 << 13)
        try wait(2000)
    }

    // MARK: Behaviours

    func run(_ behaviour: GuestBehaviour) throws(GuestFault) {
        switch behaviour {
        case .storm: return try storm()
        default: guard processor.id == 0 else { return }
        }
        switch behaviour {
        case .idle, .storm: break
        case .boot: try boot(isLazy: false)
        case .bootLazily: try boot(isLazy: true)
        case .quote: try quote()
        case .fatal: try reportFatal(0, "asked for")
        case .reset:
            let before = guest.nextReset()
            guard before < 2 else {
                try print("tdxd: emulated guest: rests after two resets\n")
                return
            }
            try print("tdxd: emulated guest: reset \(before + 1) of 2\n")
            try reset()
        }
    }

    /// A range of so many bytes that the hand-off block has, at a multiple of 2 MiB; nil with a failure.
    private func room(_ bytes: UInt64, skipping: UInt64 = 0) throws(GuestFault) -> GuestPhysicalRange? {
        guard let ranges = try unaccepted() else {
            guest.fail("no hand-off block at 0x\(String(processor.initialRCX, radix: 16)): where memory is, is unknown")
            return nil
        }
        let block = UInt64(2 << 20)
        for range in ranges {
            let start = (range.start.rawValue + skipping + block - 1) / block * block
            if start < range.end.rawValue, range.end.rawValue - start >= bytes {
                return GuestPhysicalRange(start: GuestPhysicalAddress(start), size: ByteCount(bytes))
            }
        }
        guest.fail("the hand-off block has no \(ByteCount(bytes)) in one piece")
        return nil
    }

    private func boot(isLazy: Bool) throws(GuestFault) {
        guard let area = try room(16 << 20) else { return }
        if isLazy {
            // As Linux does by its bitmap: a unit of 2 MiB before its first touch. A touch of what is not accepted
            // would end a TD that a VMM has made with SEPT_VE_DISABLE.
            let unit = ByteCount(2 << 20)
            for offset in stride(from: UInt64(0), to: area.size.rawValue, by: Int(unit.rawValue)) {
                let start = area.start + ByteCount(offset)
                guard try kernel.accept(GuestPhysicalRange(start: start, size: unit)) else {
                    return guest.fail("a page of \(unit) at \(start) was not accepted")
                }
                try kernel.write(start, [0x5A])
            }
            try print("tdxd: emulated guest: accepted the \(area.size) that it uses\n")
        } else {
            guard let bytes = try acceptAll() else { return }
            try print("tdxd: emulated guest: accepted \(bytes)\n")
        }
        // As a boot loader reads its files: buffers of 4 to 28 KiB, to shared and back.
        let pairs: UInt64 = 2500
        var refused = 0
        for index in 0..<pairs {
            let start = area.start + ByteCount(index % 512 * (28 << 10))
            let buffer = GuestPhysicalRange(start: start, size: ByteCount((index % 7 + 1) * 4096))
            if try kernel.convert(buffer, toShared: true) {
                try kernel.write(start, Array("tdxd".utf8))
                if try !kernel.convert(buffer, toShared: false) { refused += 1 }
            } else {
                refused += 1
            }
            guest.count(steps: 2)
        }
        if refused > 0 { guest.fail("\(refused) of \(2 * pairs) conversions were refused") }
        try print("tdxd: emulated guest: made \(2 * pairs) small conversions, and rests\n")
    }

    private func storm() throws(GuestFault) {
        let size: UInt64 = 4 << 20
        guard let area = try room(size, skipping: UInt64(processor.id) * size) else { return }
        guard try kernel.accept(area) else { return guest.fail("a page of \(area) was not accepted") }
        if processor.id == 0 { try print("tdxd: emulated guest: converts without an end\n") }
        while true {
            if try !kernel.convert(area, toShared: true) { return guest.fail("\(area) did not become shared") }
            if try !kernel.convert(area, toShared: false) { return guest.fail("\(area) did not become private") }
            guest.count(steps: 2)
        }
    }

    private func quote() throws(GuestFault) {
        let size: UInt64 = 16 << 10
        guard let area = try room(2 << 20) else { return }
        let buffer = GuestPhysicalRange(start: area.start, size: ByteCount(size))
        guard try kernel.accept(buffer), try kernel.convert(buffer, toShared: true) else {
            return guest.fail("\(buffer) did not become shared")
        }
        let support = try processor.vmcall(TDXExit.getTDVMCallInfoNumber, r12: 1)
        guest.say(
            "GetTdVmCallInfo: status 0x\(String(support.r10, radix: 16)), R11 0x\(String(support.r11, radix: 16))")
        let notify = try processor.vmcall(TDXExit.setupEventNotifyNumber, r12: 0x30)
        guest.say("SetupEventNotifyInterrupt: status 0x\(String(notify.r10, radix: 16))")
        // The header: version 1, status, bytes in (a TDREPORT of 1,024), bytes out.
        func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
        }
        let header = bytes(1, 8) + bytes(0, 8) + bytes(1024, 4) + bytes(0, 4)
        try kernel.write(buffer.start, header + [UInt8](repeating: 0, count: 1024))
        let asked = try processor.vmcall(
            TDXExit.getQuoteNumber, r12: buffer.start.rawValue | processor.sharedBit, r13: size)
        guard asked.r10 == 0 else {
            return guest.fail("GetQuote was refused with 0x\(String(asked.r10, radix: 16))")
        }
        // All bits but the lowest: in flight.
        let inFlight = UInt64.max
        for _ in 0..<500 {
            let words = try kernel.read(buffer.start + ByteCount(8), count: 16)
            let status = words.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let length = words[12..<16].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            if status != inFlight {
                let meaning =
                    switch status {
                    case 0: "success, \(length) bytes"
                    case 1 << 63: "error"
                    case 1 << 63 | 1: "the quoting service is not available"
                    default: "status 0x\(String(status, radix: 16))"
                    }
                guest.say("GetQuote: \(meaning)")
                try print("tdxd: emulated guest: GetQuote: \(meaning)\n")
                return
            }
            try wait(10)
        }
        guest.fail("GetQuote: still in flight after 5 s")
    }

    private func hexadecimal(_ bytes: [UInt8]) -> String {
        let text = bytes.prefix(64).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        return bytes.count > 64 ? text + "… (\(bytes.count) bytes)" : text
    }
}

/// The hand-off block list that a VMM gives a TD's firmware: what memory there is.
/// Source: TDVF design guide, "TD HOB"; UEFI Platform Initialization, volume 3.
enum HandOffBlock {
    private static let handOff: UInt16 = 1
    private static let resource: UInt16 = 3
    private static let end: UInt16 = 0xFFFF
    private static let unacceptedMemory: UInt32 = 7
    private static let maximumCount = 1024

    /// - Parameter read: `count` bytes at an offset into the list.
    /// - Returns: what must be accepted, in the list's order; nil where there is no such list.
    static func unaccepted<Failure>(
        read: (_ offset: UInt64, _ count: Int) throws(Failure) -> [UInt8]
    ) throws(Failure) -> [GuestPhysicalRange]? {
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        var offset: UInt64 = 0
        var ranges: [GuestPhysicalRange] = []
        for index in 0..<maximumCount {
            let head = try read(offset, 8)
            let type = UInt16(number(head[0..<2]))
            let length = number(head[2..<4])
            if index == 0, type != handOff || length != 56 { return nil }
            if type == end { return ranges }
            guard length >= 8 else { return nil }
            if type == resource, length >= 48 {
                let body = try read(offset, 48)
                let (start, size) = (number(body[32..<40]), number(body[40..<48]))
                if UInt32(number(body[24..<28])) == unacceptedMemory, size > 0, start <= 1 << 46, size <= 1 << 46,
                    start % 4096 == 0, size % 4096 == 0
                {
                    ranges.append(
                        GuestPhysicalRange(start: GuestPhysicalAddress(start), size: ByteCount(size)))
                }
            }
            offset += (length + 7) / 8 * 8
        }
        return nil
    }
}
