import MemoryUnits
import Testing

@Suite struct `Sizes and addresses` {
    @Test(
        arguments: [
            ("0", 0), ("4096", 4096), ("0x1000", 4096), ("64K", 65536), ("512MiB", 512 << 20), ("1G", 1 << 30),
            ("2t", 2 << 40), ("7b", 7), ("0xffffffffffffffff", UInt64.max), ("1.5G", 3 << 29), ("2.5T", 5 << 39),
            ("1Gi", 1 << 30), ("1GB", 1 << 30), ("16 MiB", 16 << 20), ("0.5k", 512), ("1.0", 1), ("4 K", 4096),
        ] as [(String, UInt64)])
    func `are read as people write them`(text: String, bytes: UInt64) throws {
        #expect(try ByteCount(parsing: text).rawValue == bytes)
    }

    @Test(arguments: [
        ("", UnitParsingError.empty), ("x", .notANumber("x")), ("0x", .notANumber("0x")), ("-1", .notANumber("-1")),
        ("1.3K", .fraction("1.3K")), ("0.5", .fraction("0.5")), ("1.G", .notANumber("1.G")),
        (".5G", .notANumber(".5G")),
        ("1.0000000000G", .notANumber("1.0000000000G")), ("16777216.5T", .overflow("16777216.5T")),
        ("1  M", .unknownUnit(" m")), ("1 ", .unknownUnit(" ")), ("1 M ", .unknownUnit("m ")),
        ("1Q", .unknownUnit("q")), ("16777216T", .overflow("16777216T")),
        ("18446744073709551616", .overflow("18446744073709551616")), ("0xg", .notANumber("0xg")),
        // The Kelvin sign, whose lower case is k.
        ("1\u{212A}", .notANumber("1\u{212A}")), ("1\u{212A}iB", .notANumber("1\u{212A}iB")),
    ])
    func `that make no sense are refused by reason`(text: String, reason: UnitParsingError) {
        #expect(throws: reason) { try ByteCount(parsing: text) }
    }

    @Test func `with the largest fractions of the largest units neither trap nor wrap`() throws {
        #expect(try ByteCount(parsing: "16777215.5T").rawValue == UInt64.max - (1 << 39) + 1)
        #expect(throws: UnitParsingError.fraction("0.999999999T")) { try ByteCount(parsing: "0.999999999T") }
    }

    @Test func `near a known name suggest it, and far from all suggest none`() {
        let names = ["list", "show", "stop", "certificate"]
        #expect(nearestName(to: "lst", among: names) == "list")
        #expect(nearestName(to: "certificat", among: names) == "certificate")
        #expect(nearestName(to: "destroy-everything", among: names) == nil)
        #expect(nearestName(to: "x", among: []) == nil)
        #expect(nearestName(to: String(repeating: "l", count: 1 << 20), among: names) == nil)
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
