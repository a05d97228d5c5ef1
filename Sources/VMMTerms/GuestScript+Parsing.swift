extension GuestScript {
    /// Lines that a script may have.
    public static let maximumLines = 100_000
    /// Bytes that one step reads or writes.
    public static let maximumBytes = 4096
    /// How deep `repeat` nests.
    public static let maximumDepth = 8
    private static let pageSize: UInt64 = 4096

    /// Reads a script.
    /// - Throws: every bad line, in order, as `GuestScriptErrors`.
    public init(parsing text: String) throws(GuestScriptErrors) {
        var parser = Parser()
        var number = 0
        // A line ends with LF or CR LF, which is one character.
        for line in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
            number += 1
            guard number <= Self.maximumLines else {
                parser.errors.append(GuestScriptError(line: number, message: "a script has at most 100000 lines"))
                break
            }
            parser.read(line, number)
        }
        parser.finish(number)
        guard parser.errors.isEmpty else { throw GuestScriptErrors(errors: parser.errors) }
        self.init(steps: parser.steps)
    }

    private struct Parser {
        var steps: [UInt32: [NumberedStep]] = [:]
        var errors: [GuestScriptError] = []
        private var cpu: UInt32 = 0
        /// `repeat` blocks that are open, the innermost last.
        private var open: [(line: Int, count: UInt64, steps: [NumberedStep])] = []

        mutating func read(_ line: Substring, _ number: Int) {
            do throws(GuestScriptError) {
                var words = try Words(line, number)
                guard let verb = words.next() else { return }
                switch verb {
                case "cpu":
                    guard open.isEmpty else { throw words.wrong("“cpu” inside “repeat”") }
                    cpu = UInt32(try words.number("a vCPU", upTo: 4095))
                case "repeat":
                    guard open.count < maximumDepth else {
                        throw words.wrong("“repeat” nests at most \(maximumDepth) deep")
                    }
                    open.append((number, try words.number("a count", from: 1, upTo: 1_000_000_000), []))
                case "end":
                    guard let block = open.popLast() else { throw words.wrong("“end” without “repeat”") }
                    guard !block.steps.isEmpty else { throw words.wrong("an empty “repeat”") }
                    add(NumberedStep(line: block.line, step: .repeated(count: block.count, steps: block.steps)))
                default: add(NumberedStep(line: number, step: try step(verb, &words)))
                }
                try words.finish()
            } catch {
                errors.append(error)
            }
        }

        mutating func finish(_ number: Int) {
            for block in open {
                errors.append(GuestScriptError(line: block.line, message: "“repeat” without “end”"))
            }
        }

        private mutating func add(_ step: NumberedStep) {
            if open.isEmpty {
                steps[cpu, default: []].append(step)
            } else {
                open[open.count - 1].steps.append(step)
            }
        }

        private func step(_ verb: String, _ words: inout Words) throws(GuestScriptError) -> GuestStep {
            switch verb {
            case "accept":
                if words.take("all") { return .acceptAll }
                let (address, size) = try words.pages()
                return .accept(address: address, size: size)
            case "read":
                let address = try words.address()
                return .read(
                    address: address, count: Int(try words.number("a size", from: 1, upTo: UInt64(maximumBytes))))
            case "write": return .write(address: try words.address(), bytes: try words.bytes())
            case "expect": return .expect(address: try words.address(), bytes: try words.bytes())
            case "convert":
                let (address, size) = try words.pages()
                let toShared = try words.choice(["shared": true, "private": false])
                return .convert(
                    address: address, size: size, toShared: toShared, succeeds: !words.take("refused"))
            case "mmio":
                let reads = try words.choice(["read": true, "write": false])
                let (address, size) = (try words.address(), try words.width([1, 2, 4, 8]))
                return reads
                    ? .mmioRead(address: address, size: size, expected: try words.expectation())
                    : .mmioWrite(address: address, size: size, value: try words.number("a value", bytes: size))
            case "port":
                let reads = try words.choice(["read": true, "write": false])
                let port = UInt16(try words.number("a port", upTo: 0xFFFF))
                let size = try words.width([1, 2, 4])
                return reads
                    ? .portRead(port: port, size: size, expected: try words.expectation())
                    : .portWrite(port: port, size: size, value: try words.number("a value", bytes: size))
            case "vmcall":
                let number = try words.number("a number of a call", upTo: .max)
                let registers = try words.registers()
                let expected = words.take("expect") ? try words.registers() : [:]
                return .vmcall(number: number, registers: registers, expected: expected)
            case "wait": return .wait(milliseconds: try words.number("milliseconds", upTo: 3_600_000))
            case "print": return .print(try words.text())
            case "fatal": return .fatal(code: try words.number("a code", upTo: UInt64(UInt32.max)))
            case "reset": return .reset
            case "poweroff": return .powerOff
            default:
                throw words.wrong(
                    "unknown step “\(verb)”; steps are accept, read, write, expect, convert, mmio, port, vmcall, wait, "
                        + "print, fatal, reset, poweroff, repeat … end and cpu")
            }
        }
    }

    /// The words of a line, in order. A comment begins with # outside quotation marks.
    private struct Words {
        private var words: [(text: String, isQuoted: Bool)] = []
        private let line: Int
        private var place = 0

        init(_ text: Substring, _ line: Int) throws(GuestScriptError) {
            self.line = line
            var rest = text[...]
            while let first = rest.first {
                if first == " " || first == "\t" {
                    rest.removeFirst()
                } else if first == "#" {
                    return
                } else if first == "\"" {
                    rest.removeFirst()
                    words.append((try Self.quoted(&rest, line), true))
                } else {
                    let word = rest.prefix { $0 != " " && $0 != "\t" && $0 != "#" && $0 != "\"" }
                    words.append((String(word), false))
                    rest = rest.dropFirst(word.count)
                }
            }
        }

        private static func quoted(_ rest: inout Substring, _ line: Int) throws(GuestScriptError) -> String {
            var text = ""
            while let next = rest.popFirst() {
                if next == "\"" { return text }
                guard next == "\\" else {
                    text.append(next)
                    continue
                }
                switch rest.popFirst() {
                case "n": text.append("\n")
                case "r": text.append("\r")
                case "t": text.append("\t")
                case "0": text.append("\0")
                case "\\": text.append("\\")
                case "\"": text.append("\"")
                default: throw GuestScriptError(line: line, message: "after \\ comes one of n r t 0 \\ \"")
                }
            }
            throw GuestScriptError(line: line, message: "quotation marks that do not close")
        }

        func wrong(_ message: String) -> GuestScriptError { GuestScriptError(line: line, message: message) }

        mutating func next() -> String? {
            guard place < words.count else { return nil }
            defer { place += 1 }
            return words[place].text
        }

        /// Takes the next word if it is this one.
        mutating func take(_ word: String) -> Bool {
            guard place < words.count, !words[place].isQuoted, words[place].text == word else { return false }
            place += 1
            return true
        }

        func finish() throws(GuestScriptError) {
            guard place < words.count else { return }
            throw wrong("“\(words[place].text)” is too much")
        }

        mutating func number(
            _ what: String, from least: UInt64 = 0, upTo most: UInt64
        ) throws(GuestScriptError) -> UInt64 {
            guard let word = next() else { throw wrong("\(what) is missing") }
            guard let value = parseScriptNumber(word) else {
                throw wrong("“\(word)” is not \(what): a number such as 4096, 0x1000, 4K or 2M")
            }
            guard value >= least, value <= most else {
                throw wrong("\(what) is \(word); it must be \(least) to \(most)")
            }
            return value
        }

        /// A value that fits into so many bytes.
        mutating func number(_ what: String, bytes: Int) throws(GuestScriptError) -> UInt64 {
            try number(what, upTo: bytes == 8 ? .max : 1 << UInt64(8 * bytes) - 1)
        }

        mutating func address() throws(GuestScriptError) -> UInt64 { try number("an address", upTo: 1 << 46 - 1) }

        mutating func pages() throws(GuestScriptError) -> (UInt64, UInt64) {
            let address = try number("an address", upTo: 1 << 46 - pageSize)
            guard address % pageSize == 0 else { throw wrong("the address is not a multiple of \(pageSize)") }
            let size = try number("a size", from: pageSize, upTo: 1 << 46)
            guard size % pageSize == 0 else { throw wrong("the size is not a multiple of \(pageSize)") }
            guard size <= 1 << 46 - address else { throw wrong("the range goes beyond 2^46") }
            return (address, size)
        }

        mutating func width(_ allowed: [Int]) throws(GuestScriptError) -> Int {
            let size = Int(try number("a width in bytes", upTo: 8))
            guard allowed.contains(size) else {
                throw wrong(
                    "a width of \(size) bytes; it is one of \(allowed.map(String.init).joined(separator: ", "))")
            }
            return size
        }

        mutating func choice(_ values: [String: Bool]) throws(GuestScriptError) -> Bool {
            let known = values.keys.sorted().joined(separator: " or ")
            guard let word = next() else { throw wrong("\(known) is missing") }
            guard let value = values[word] else { throw wrong("“\(word)” is not \(known)") }
            return value
        }

        mutating func expectation() throws(GuestScriptError) -> UInt64? {
            guard take("expect") else { return nil }
            return try number("a value", upTo: .max)
        }

        /// A quoted text, or pairs of hexadecimal digits in one or more words.
        mutating func bytes() throws(GuestScriptError) -> [UInt8] {
            guard place < words.count else {
                throw wrong("bytes are missing: \"text\", or pairs of hexadecimal digits")
            }
            var bytes: [UInt8] = []
            while place < words.count {
                let (text, isQuoted) = words[place]
                place += 1
                if isQuoted {
                    bytes += Array(text.utf8)
                    continue
                }
                let digits = Array(text.utf8)
                guard digits.count.isMultiple(of: 2) else { throw wrong("“\(text)” is an odd number of digits") }
                for pair in stride(from: 0, to: digits.count, by: 2) {
                    guard let high = Self.digit(digits[pair]), let low = Self.digit(digits[pair + 1]) else {
                        throw wrong("“\(text)” is not made of hexadecimal digits; text is written in quotation marks")
                    }
                    bytes.append(high << 4 | low)
                }
            }
            guard (1...maximumBytes).contains(bytes.count) else {
                throw wrong("\(bytes.count) bytes; a step has 1 to \(maximumBytes)")
            }
            return bytes
        }

        private static func digit(_ byte: UInt8) -> UInt8? {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
            default: nil
            }
        }

        mutating func text() throws(GuestScriptError) -> String {
            guard place < words.count, words[place].isQuoted else {
                throw wrong("a text in quotation marks is missing")
            }
            let text = next()!
            guard text.utf8.count <= maximumBytes else { throw wrong("a text has at most \(maximumBytes) bytes") }
            return text
        }

        /// name=value, as far as such words follow.
        mutating func registers() throws(GuestScriptError) -> [String: UInt64] {
            var registers: [String: UInt64] = [:]
            while place < words.count, !words[place].isQuoted, words[place].text != "expect" {
                let word = words[place].text
                place += 1
                let parts = word.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
                guard parts.count == 2, ["r10", "r11", "r12", "r13", "r14", "r15"].contains(parts[0]),
                    let value = parseScriptNumber(parts[1])
                else { throw wrong("“\(word)” is no register and value, such as r12=0x1000; registers are r10 to r15") }
                guard registers.updateValue(value, forKey: parts[0]) == nil else {
                    throw wrong("\(parts[0]) comes twice")
                }
            }
            return registers
        }
    }
}

/// 4096, 0x1000, or a number with K, M, G or T for powers of 1,024. Nil for anything else, and beyond 64 bits.
private func parseScriptNumber(_ text: String) -> UInt64? {
    if text.hasPrefix("0x") || text.hasPrefix("0X") {
        let digits = text.dropFirst(2)
        guard digits.utf8.allSatisfy({ UInt8(ascii: "+") != $0 && UInt8(ascii: "-") != $0 }) else { return nil }
        return UInt64(digits, radix: 16)
    }
    guard let last = text.utf8.last else { return nil }
    let shift: UInt64
    switch last {
    case UInt8(ascii: "K"): shift = 10
    case UInt8(ascii: "M"): shift = 20
    case UInt8(ascii: "G"): shift = 30
    case UInt8(ascii: "T"): shift = 40
    default: shift = 0
    }
    let digits = shift == 0 ? text[...] : text.dropLast()
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
        let value = UInt64(digits)
    else { return nil }
    let (product, overflow) = value.multipliedReportingOverflow(by: 1 << shift)
    return overflow ? nil : product
}

/// Every bad line of a script, in order; at least one.
public struct GuestScriptErrors: Error, Hashable, Sendable, CustomStringConvertible {
    public var errors: [GuestScriptError]

    public init(errors: [GuestScriptError]) { self.errors = errors }

    public var description: String { errors.map(\.description).joined(separator: "\n") }
}
