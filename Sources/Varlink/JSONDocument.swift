/// A JSON document that is being written, from its beginning to its end.
final class JSONDocument {
    enum Kind: Sendable {
        case object, list

        var opening: UInt8 { self == .object ? UInt8(ascii: "{") : UInt8(ascii: "[") }
        var closing: UInt8 { self == .object ? UInt8(ascii: "}") : UInt8(ascii: "]") }
    }

    /// A container that was opened.
    struct Place {
        fileprivate var depth: Int
        fileprivate var number: Int
    }

    private struct Container {
        var kind: Kind
        var number: Int
        var isEmpty = true
    }

    var bytes: [UInt8] = []
    private var containers: [Container] = []
    private var opened = 0

    init() { bytes.reserveCapacity(512) }

    /// How many containers are open.
    var depth: Int { containers.count }

    func open(_ kind: Kind) {
        bytes.append(kind.opening)
        containers.append(Container(kind: kind, number: opened))
        opened += 1
    }

    /// Closes the innermost containers until so many are open.
    func close(to depth: Int) {
        while containers.count > depth { bytes.append(containers.removeLast().kind.closing) }
    }

    /// The innermost container, which is of that kind.
    func innermost(_ kind: Kind) -> Place {
        guard let last = containers.last, last.kind == kind else {
            preconditionFailure("one value is encoded as an object and as a list")
        }
        return Place(depth: containers.count, number: last.number)
    }

    /// Begins the next member or element of a container, and closes those inside of it.
    func next(in place: Place) {
        close(to: place.depth)
        let index = place.depth - 1
        precondition(
            containers.count == place.depth && containers[index].number == place.number,
            "a container is written to that was closed")
        if containers[index].isEmpty {
            containers[index].isEmpty = false
        } else {
            bytes.append(UInt8(ascii: ","))
        }
    }

    // MARK: Values

    func append(_ flag: Bool) { bytes += flag ? "true".utf8 : "false".utf8 }

    func append(_ number: some FixedWidthInteger) {
        if number < 0 { bytes.append(UInt8(ascii: "-")) }
        let start = bytes.count
        var rest = number.magnitude
        repeat {
            let (quotient, digit) = rest.quotientAndRemainder(dividingBy: 10)
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: digit))
            rest = quotient
        } while rest != 0
        bytes[start...].reverse()
    }

    /// - Throws: `EncodingError.invalidValue` for one that is not finite.
    func append(_ number: Double) throws {
        guard number.isFinite else {
            throw EncodingError.invalidValue(
                number, .init(codingPath: [], debugDescription: "\(number) is not a JSON number"))
        }
        // The shortest digits that are read as the same number.
        let text = "\(number)"
        bytes += text.hasSuffix(".0") ? text.dropLast(2).utf8 : text[...].utf8
    }

    func append(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        var text = text
        text.withUTF8 { characters in
            var written = 0
            for (index, byte) in characters.enumerated() where byte < 0x20 || byte == 0x22 || byte == 0x5C {
                bytes += characters[written..<index]
                written = index + 1
                escape(byte)
            }
            bytes += characters[written...]
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private func escape(_ byte: UInt8) {
        bytes.append(UInt8(ascii: "\\"))
        switch byte {
        case 0x08: bytes.append(UInt8(ascii: "b"))
        case 0x09: bytes.append(UInt8(ascii: "t"))
        case 0x0A: bytes.append(UInt8(ascii: "n"))
        case 0x0C: bytes.append(UInt8(ascii: "f"))
        case 0x0D: bytes.append(UInt8(ascii: "r"))
        case 0x22, 0x5C: bytes.append(byte)
        default: bytes += ((byte < 0x10 ? "u000" : "u00") + String(byte, radix: 16)).utf8
        }
    }
}
