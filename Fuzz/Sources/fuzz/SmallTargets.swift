internal import MemoryUnits
internal import TDXStatusCodes

extension FuzzTarget {
    /// Eight bytes: a status, little-endian. Every status can be explained, and says its own number.
    static let status = FuzzTarget(name: "status") { bytes in
        var reader = InputReader(bytes)
        let status = TDXStatus(reader.word())
        let explanation = status.explain()
        hold(explanation.status == status && !explanation.cause.isEmpty && !explanation.nextStep.isEmpty, "\(status)")
        hold(explanation.name == status.name && explanation.severity == status.severity, "\(status)")
        let digits = status.description.dropFirst(2).prefix(16)
        hold(UInt64(digits, radix: 16) == status.rawValue, "\(status) is not \(status.rawValue)")
    }

    /// A size or an address as text. What is accepted is plain ASCII, and is read again the same as it is written.
    static let units = FuzzTarget(name: "units") { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        do throws(UnitParsingError) {
            let count = try ByteCount(parsing: text)
            hold(text.utf8.allSatisfy { $0 < 0x80 }, "“\(text)” is a size")
            hold(try GuestPhysicalAddress(parsing: text).rawValue == count.rawValue, "\(text) is two numbers")
            hold(try ByteCount(parsing: "\(GuestPhysicalAddress(count.rawValue))") == count, "\(count) in hexadecimal")
            let written = String("\(count)".filter { $0 != " " })
            hold(try ByteCount(parsing: written) == count, "\(count) is read again as another")
        } catch { hold(!error.description.isEmpty, "an error without words") }
    }
}
