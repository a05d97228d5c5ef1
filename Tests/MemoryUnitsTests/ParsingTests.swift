import MemoryUnits
import Testing

@Suite struct `Sizes and addresses` {
    @Test(
        arguments: [
            ("0", 0), ("4096", 4096), ("0x1000", 4096), ("64K", 65536), ("512MiB", 512 << 20), ("1G", 1 << 30),
            ("2t", 2 << 40), ("7b", 7), ("0xffffffffffffffff", UInt64.max),
        ] as [(String, UInt64)])
    func `are read as people write them`(text: String, bytes: UInt64) throws {
        #expect(try ByteCount(parsing: text).rawValue == bytes)
    }

    @Test(arguments: [
        ("", UnitParsingError.empty), ("x", .notANumber("x")), ("0x", .notANumber("0x")), ("-1", .notANumber("-1")),
        ("1.5G", .unknownUnit(".5g")), ("1Q", .unknownUnit("q")), ("16777216T", .overflow("16777216T")),
        ("18446744073709551616", .overflow("18446744073709551616")), ("0xg", .notANumber("0xg")),
        // The Kelvin sign, whose lower case is k.
        ("1\u{212A}", .notANumber("1\u{212A}")), ("1\u{212A}iB", .notANumber("1\u{212A}iB")),
    ])
    func `that make no sense are refused by reason`(text: String, reason: UnitParsingError) {
        #expect(throws: reason) { try ByteCount(parsing: text) }
    }

    @Test func `are printed in the largest unit that divides them`() {
        #expect(ByteCount.gibibytes(3).description == "3 GiB")
        #expect(ByteCount(4097).description == "4097 B")
        #expect(ByteCount.zero.description == "0 B")
    }
}

@Suite struct `A guest-physical range` {
    @Test func `that wraps cannot be made from a client's numbers`() {
        #expect(GuestPhysicalRange(validating: .init(UInt64.max), size: .init(4096)) == nil)
        #expect(GuestPhysicalRange(validating: .init(UInt64.max - 4096), size: .init(4096)) != nil)
    }

    @Test func `shares with another just what both contain`() {
        let low = GuestPhysicalRange(start: .init(0x1000), size: .init(0x3000))
        let high = GuestPhysicalRange(start: .init(0x3000), size: .init(0x3000))
        #expect(low.intersection(high) == GuestPhysicalRange(start: .init(0x3000), size: .init(0x1000)))
        #expect(low.overlaps(high) && !low.contains(high))
        #expect(low.intersection(GuestPhysicalRange(start: .init(0x4000), size: .init(1))) == nil)
    }
}
