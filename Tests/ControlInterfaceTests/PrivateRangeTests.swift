import Testing

@testable import ControlInterface

@Suite struct PrivateRangeTests {
    static let page: UInt64 = 4096

    private func decoded(_ bytes: [UInt8], pieces: Int = .max) throws -> [MemoryRun] {
        var decoder = PrivateRangeDecoder()
        var runs: [MemoryRun] = []
        var (buffer, position): ([UInt8], Int) = ([], 0)
        var rest = bytes[...]
        while true {
            if let run = try decoder.next(buffer, &position) {
                runs.append(run)
            } else if rest.isEmpty {
                #expect(position == buffer.count, "the last range has no end")
                return runs
            } else {
                buffer = Array(buffer[position...]) + rest.prefix(pieces)
                position = 0
                rest = rest.dropFirst(pieces)
            }
        }
    }

    @Test(arguments: [1, 2, 3, 7, 1 << 16])
    func `ranges come out as they went in, however the bytes are cut`(_ pieces: Int) throws {
        let seed: UInt64 = 4711
        print("seed \(seed)")
        var state = seed
        func next(_ bound: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % bound
        }
        var encoder = PrivateRangeEncoder()
        var expected: [MemoryRun] = []
        var bytes: [UInt8] = []
        var start: UInt64 = 0
        for _ in 0..<2000 {
            // Adjacent ones of one state are one range.
            start += next(3) == 0 ? 0 : next(3) == 0 ? next(1 << 30) : next(200)
            let pages = 1 + (next(4) == 0 ? next(1 << 20) : next(8))
            let attribute = PageAttribute.allCases[Int(next(UInt64(PageAttribute.allCases.count)))]
            encoder.add(start: start, pages: pages, attribute)
            if next(10) == 0 { bytes += encoder.take() }
            if attribute != .shared {
                if let last = expected.last, last.attribute == attribute, last.gpa + last.bytes == start * Self.page {
                    expected[expected.count - 1].bytes += pages * Self.page
                } else {
                    expected.append(
                        MemoryRun(gpa: start * Self.page, bytes: pages * Self.page, attribute: attribute))
                }
            }
            start += pages
        }
        bytes += encoder.take(isLast: true)
        #expect(try decoded(bytes, pieces: pieces) == expected)
    }

    @Test func `where every other page is private a range takes two bytes`() throws {
        var encoder = PrivateRangeEncoder()
        for index in 0..<UInt64(1000) { encoder.add(start: 2 * index, pages: 1, .private) }
        let bytes = encoder.take(isLast: true)
        #expect(bytes.count == 2000)
        #expect(try decoded(bytes).count == 1000)
        #expect(try decoded([]).isEmpty)
    }

    @Test(
        arguments: [
            // No pages; a shared range; an end behind 2^63; a number without end.
            [0, 1], [0, 4], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 5],
            [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
        ] as [[UInt8]])
    func `what is no range is refused`(_ bytes: [UInt8]) {
        #expect(throws: PrivateRangeFlaw.self) { try decoded(bytes) }
    }

    @Test func `no bytes make the reader trap`() {
        let seed: UInt64 = 99
        print("seed \(seed)")
        var state = seed
        for _ in 0..<20_000 {
            let bytes = (0..<12).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 40) | ((state >> 50) & 1 == 0 ? 0x80 : 0)
            }
            var decoder = PrivateRangeDecoder()
            var position = 0
            while let run = try? decoder.next(bytes, &position) {
                #expect(run.bytes > 0 && run.gpa + run.bytes <= 1 << 63)
            }
        }
    }
}
