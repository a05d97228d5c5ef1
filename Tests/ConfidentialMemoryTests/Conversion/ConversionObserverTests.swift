import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

@testable import ConfidentialMemory

@Suite struct ConversionObserverTests {
    private static func record(
        _ megabyte: UInt64, _ side: MemorySide, microseconds: UInt64, at start: UInt64 = 0
    ) -> ConversionRecord {
        ConversionRecord(
            range: range(megabyte << 20, mebibytes: 2), side: side, origin: .guest, requests: 1,
            result: ConversionResult(), start: MonotonicInstant(nanoseconds: start),
            end: MonotonicInstant(nanoseconds: start + microseconds * 1000))
    }

    @Test func `the last thousand conversions are kept, oldest first`() {
        let observer = ConversionObserver()
        for number in 0..<UInt64(1_234) {
            observer.note(Self.record(0, .private, microseconds: 1, at: number * 1_000_000))
        }
        let records = observer.records
        #expect(records.count == 1_000)
        #expect(records.first?.start.nanoseconds == 234_000_000)
        #expect(records.last?.start.nanoseconds == 1_233_000_000)
    }

    @Test func `times and sizes are told for each direction, within one per cent`() {
        let observer = ConversionObserver()
        for time in 1...UInt64(1_000) { observer.note(Self.record(0, .shared, microseconds: time)) }
        let shared = observer.statistics(to: .shared)
        #expect(shared.latency.count == 1_000)
        #expect((495...505).contains(shared.latency.median))
        #expect((980...1_000).contains(shared.latency.percentile99))
        #expect((1_000...1_010).contains(shared.latency.maximum))
        #expect((2 << 20..<2 << 20 + 2 << 14).contains(shared.size.median))
        #expect(observer.statistics(to: .private).latency.count == 0)
    }

    @Test func `conversions of a guest are counted with their failures`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        try memory.fill(range(0, mebibytes: 2), with: 1)
        try memory.convert(range(0, mebibytes: 4), to: .private)
        bench.journal.fail { $0.name == "attributes" ? .ioError : nil }
        #expect(throws: ConversionError.self) { try memory.convert(range(0, mebibytes: 2), to: .shared) }
        let toPrivate = memory.conversionStatistics(to: .private)
        #expect(toPrivate.changed == .mebibytes(4) && toPrivate.discarded == .mebibytes(2))
        #expect(toPrivate.failures == 0 && toPrivate.size.count == 1)
        #expect(memory.conversionStatistics(to: .shared).failures == 1)
        #expect(memory.conversionRecords.map(\.side) == [.private, .shared])
        #expect(memory.conversionRecords[1].failure?.end == GuestPhysicalAddress(0))
    }

    @Test func `the hottest blocks are found among many cool ones`() {
        var blocks = HotBlocks(capacity: 8)
        for round in 0..<UInt64(1_000) {
            blocks.touch(7)
            if round % 2 == 0 { blocks.touch(9) }
            blocks.touch(1_000 + round)
        }
        #expect(blocks.blocks.prefix(2).map(\.address.rawValue) == [7 << 21, 9 << 21])
        #expect(blocks.blocks[0].conversions >= 1_000)
        #expect(blocks.blocks.count == 8)
    }

    @Test func `a storm is counted once, however long it lasts, and again when it comes back`() {
        var storm = StormDetector(StormRule(conversions: 10, milliseconds: 100))
        func burst(_ count: Int, window: UInt64) {
            for _ in 0..<count { storm.note(window * 100_000_000) }
        }
        burst(10, window: 1)
        #expect(storm.storms == 0)
        burst(11, window: 2)
        burst(50, window: 3)
        #expect(storm.storms == 1)
        burst(3, window: 4)
        burst(11, window: 5)
        #expect(storm.storms == 2)
        burst(11, window: 9)
        #expect(storm.storms == 3)
    }
}
